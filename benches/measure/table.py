"""The figures as one table for the eye, with what was to be reached."""

import creates
import guesses
import objects
import placement
import shared
import sockets
import tunnel

# What tells its own rows.
TELLERS = {"tunnel": tunnel, "creates": creates, "objects": objects, "placement": placement, "shared": shared, "guesses": guesses}

UNARY_SHARE_MIN = 0.85
REST_CPU_MAX = 1.3
COLD_START_MS_MAX = 50
IDLE_BYTES_MAX = 20 << 20
UPLOAD_GROWTH_BYTES_MAX = 32 << 20
# Below this the server waited for the machine or for its load, and requests per second say little about it.
BUSY_MIN = 0.9

NOTES = """\
Server on processor 0 with one worker thread, load (h2load, drive) on processor 1; medians of {rounds} rounds of {requests} requests,
servers in turn; HTTP/1.1 16 connections, HTTP/2 4 x 8 streams; the load's processor is kept awake. CPU is user and system time of the server's process. "of bare" and
"of stack" are throughput per CPU second as a share of the peer's, the median of the rounds' own ratios: above 1.00 the gateway is quicker.
Every server: mimalloc, the same release profile, TCP_NODELAY, and the same read through the gateway's own SQLite backend from a copy of
the same file. The gateway also checks the key and access, counts, traces and audits{log}; rate limits are off.
The bare handler (axum) and the stack of three crates (connectrpc-axum 0.2.3, tonic 0.14.9, tonic-web 0.14.9) do none of that.
"""


def verdict(reached, target):
    return f"{'met' if reached else 'MISSED'} ({target})"


def mib(count):
    return f"{count / (1 << 20):.1f} MiB"


def render(result):
    lines, missed = [], []

    def judge(name, figure, reached, target):
        if not reached:
            missed.append(f"{name}: {figure}, wanted {target}")
        return verdict(reached, target)

    if "unary" in result:
        unary(result, lines, judge)
    if "sockets" in result:
        sockets.tell(result["sockets"], lines, judge)
    if "upload" in result:
        uploads(result["upload"], lines, judge)
    for name, teller in TELLERS.items():
        if name in result:
            teller.tell(result[name], lines, judge)
    if "start" in result:
        start(result["start"], lines, judge)
    lines.append("Missed: " + ("; ".join(missed) if missed else "nothing"))
    return "\n".join(lines)


def unary(result, lines, judge):
    rows = result["unary"]
    lines.append("Unary read: podium.v1.DeploymentsService/GetDeployment")
    lines.append(f"  {'':16} {'us CPU':>7} {'req/s':>7} {'busy':>5}   {'of bare':>7}  {'target':22} {'of stack':>8}  target")
    floor, stack_floor = f">= {UNARY_SHARE_MIN}", ">= 1.00"
    for key, row in rows.items():
        server, _, door = key.partition(": ")
        if server != "gateway":
            continue
        line = f"  {door:16} {row['cpu_us']:7.1f} {row['per_second']:7.0f} {row['busy']:5.0%}   "
        share = row["of_bare"]
        line += f"{share:6.2f}x  {judge(door + ' of bare', f'{share:.2f}x', share >= UNARY_SHARE_MIN, floor):22} "
        if "of_stack" in row:
            share = row["of_stack"]
            line += f"{share:7.2f}x  {judge(door + ' of stack', f'{share:.2f}x', share >= 1, stack_floor)}"
        lines.append(line)
    for key, row in rows.items():
        if not key.startswith("gateway: "):
            lines.append(f"  {key:16} {row['cpu_us']:7.1f} {row['per_second']:7.0f} {row['busy']:5.0%}")
    for version in ("h1", "h2"):
        ratio = rows[f"gateway: REST JSON {version}"]["cpu_us"] / rows[f"gateway: Connect JSON {version}"]["cpu_us"]
        said = judge(f"REST CPU of Connect JSON {version}", f"{ratio:.2f}x", ratio <= REST_CPU_MAX, f"<= {REST_CPU_MAX}")
        lines.append(f"  REST takes {ratio:.2f}x the CPU of Connect JSON over {version}: {said}")
    if any(row["busy"] < BUSY_MIN for row in rows.values()):
        lines.append("  Some servers did not have their processor to themselves (busy): there, read CPU and not req/s.")
    lines.append("  " + NOTES.format(**result["settings"]).strip().replace("\n", "\n  "))
    lines.append("")


def uploads(rows, lines, judge):
    lines.append("Upload: multipart, stored (not compressed) random content")
    for name, row in rows.items():
        grown = row["grown_bytes"]
        said = judge(f"upload of {name}, memory", mib(grown), grown <= UPLOAD_GROWTH_BYTES_MAX, "<= 32 MiB")
        lines.append(
            f"  {name:8} {row['mib_per_second']:7.0f} MiB/s {row['cpu_ms_per_mib']:6.2f} ms CPU per MiB, memory grows by {mib(grown)}: {said}"
        )
    lines.append("")


def start(row, lines, judge):
    lines.append("The program")
    cold, idle = row["cold_ms"], row["idle_bytes"]
    said = judge("cold start", f"{cold:.1f} ms", cold <= COLD_START_MS_MAX, f"<= {COLD_START_MS_MAX} ms")
    lines.append(f"  cold start    {cold:6.1f} ms from exec to /health 200 (least {row['cold_ms_min']:.1f}): {said}")
    lines.append(f"  first start   {row['first_ms']:6.1f} ms, in which it makes its data and its admin key")
    said = judge("idle memory", mib(idle), idle <= IDLE_BYTES_MAX, "<= 20 MiB")
    lines.append(f"  idle memory   {mib(idle)} resident, {mib(row['idle_anonymous_bytes'])} of it its own: {said}")
    lines.append(f"  binary        {mib(row['binary_bytes'])}")
    lines.append("")
