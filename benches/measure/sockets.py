"""WebSockets: round trips through the tunnel and to a bare echo, and what an idle one takes in memory."""

import json
import statistics
import subprocess
import time

from processes import LOAD_CORE, pinned
from seed import Caller

# Answered by the host of an instance itself, so that the tunnel is measured and not an agent.
PING = json.dumps({"type": "ping", "content": {"text": "x" * 96}})
TURN = json.dumps({"type": "process_message", "content": {"text": "hello"}})
PATIENCE_SECONDS = 180
# An instance takes so many clients and no more.
SOCKETS_OF_INSTANCE = 16
IDLE_SOCKETS = 1_024
SETTLE_SECONDS = 2
SOCKET_BYTES_MAX = 12_000


class Driver:
    """Starts `drive` on LOAD_CORE."""

    def __init__(self, binary):
        self.binary = str(binary)

    def words(self, what, address, key, frame, until, sockets, rounds=0):
        return [self.binary, what, address, key, frame, until, str(sockets), str(rounds)]

    def round_trips(self, server, *arguments):
        before = server.cpu_seconds()
        run = lambda: subprocess.run(
            self.words("round-trip", *arguments), capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        done = pinned(LOAD_CORE, run)
        if done.returncode:
            raise SystemExit(f"error: {server.name}: {done.stderr}")
        said = json.loads(done.stdout)
        said["cpu_us"] = (server.cpu_seconds() - before) / said["rounds"] * 1e6
        said["per_second"] = said["rounds"] / said["seconds"]
        return said

    def idle_bytes(self, server, sockets, *arguments):
        """Growth of the server's memory for each socket that has answered once and is then left alone."""
        time.sleep(SETTLE_SECONDS)
        before = server.memory()
        start = lambda: subprocess.Popen(
            self.words("idle", *arguments, sockets), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        driver = pinned(LOAD_CORE, start)
        said = driver.stdout.readline()
        if not said:
            driver.wait()
            raise SystemExit(f"error: {server.name}: the sockets could not be opened")
        time.sleep(SETTLE_SECONDS)
        grown = server.memory() - before
        driver.communicate(timeout=PATIENCE_SECONDS)
        return grown / json.loads(said)["open"]


def instances(caller, deployment, sockets, say):
    """As many instances as these sockets need, called `bench-0` and so on."""
    count = sockets // SOCKETS_OF_INSTANCE
    say(f"starts {count} instances")
    for number in range(count):
        caller.new_instance(deployment, f"bench-{number}")


def round_trips(driver, what, shapes, ways, rounds, say):
    """Each way in turn, in each shape; the medians of the rounds."""
    result = {}
    for shape, (sockets, count) in shapes.items():
        taken = {way: [] for way in ways}
        for turn in range(rounds):
            say(f"{what}, {shape}, round {turn + 1} of {rounds}")
            for way, (server, *words) in ways.items():
                taken[way].append(driver.round_trips(server, *words, sockets, count))
        for way, all_rounds in taken.items():
            result[f"{way}, {shape}"] = {
                figure: statistics.median(one[figure] for one in all_rounds)
                for figure in ("p50_us", "p99_us", "cpu_us", "per_second")
            }
    return result


def measure(driver, gateway, echo, deployment, key, rounds, say):
    instances(Caller(gateway.port, key), deployment, IDLE_SOCKETS, say)
    tunnel = (f"127.0.0.1:{gateway.port}/agent/bench-#", key, PING, '"pong"')
    direct = (f"127.0.0.1:{echo.port}/", "", PING, "")
    shapes = {"one socket": (1, 3_000), "32 sockets": (32, 500)}
    ways = {"tunnel": (gateway, *tunnel), "direct": (echo, *direct)}
    result = round_trips(driver, "WebSocket round trips", shapes, ways, rounds, say)
    say("a whole turn of the echo agent")
    turn = (tunnel[0], key, TURN, '"type":"complete"')
    result["turn of the echo agent"] = driver.round_trips(gateway, *turn, 1, 200)
    say(f"{IDLE_SOCKETS} idle sockets")
    result["idle"] = {
        "sockets": IDLE_SOCKETS,
        "tunnel_bytes": driver.idle_bytes(gateway, IDLE_SOCKETS, *tunnel),
        "direct_bytes": driver.idle_bytes(echo, IDLE_SOCKETS, *direct),
    }
    return result


def tell(rows, lines, judge):
    lines.append("WebSocket: a text frame of some 130 bytes there and back")
    tell_round_trips(rows, lines)
    idle = rows["idle"]
    taken = idle["tunnel_bytes"]
    said = judge("memory per idle socket", f"{taken:.0f} B", taken <= SOCKET_BYTES_MAX, f"<= {SOCKET_BYTES_MAX} B")
    lines.append(
        f"  {idle['sockets']} idle sockets take {taken:.0f} bytes each in the gateway: {said}; {idle['direct_bytes']:.0f} in the echo"
    )
    lines.append(
        "  Tunnel: GET /agent/{id} to an instance of the embedded fleet, whose host answers `ping`. Direct: tokio-tungstenite's echo.\n"
        "  The embedded fleet has no second socket per client: a pair is the client's socket and its seat at the instance."
    )
    lines.append("")


def tell_round_trips(rows, lines):
    lines.append(f"  {'':24} {'p50 us':>7} {'p99 us':>7} {'us CPU':>7} {'trips/s':>8}")
    for name, row in rows.items():
        if name != "idle":
            lines.append(
                f"  {name:24} {row['p50_us']:7.0f} {row['p99_us']:7.0f} {row['cpu_us']:7.1f} {row['per_second']:8.0f}"
            )
