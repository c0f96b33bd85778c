"""What a healthy caller waits while others try ten thousand bad keys a second."""

import json
import subprocess

from processes import LOAD_CORE, pinned
from seed import Caller

PER_SECOND = 10_000
SECONDS = 10
P99_TIMES_MAX = 2.0
GROWTH_BYTES_MAX = 32 << 20


def measure(gateway, program, say):
    say(f"{PER_SECOND} bad keys a second for {SECONDS} s")
    gateway.forget_peak()
    memory, before = gateway.memory(), gateway.cpu_seconds()
    # Limits are off, so the healthy caller is never told to wait.
    words = [str(program), f"127.0.0.1:{gateway.port}", Caller(gateway.port).key, str(PER_SECOND), str(SECONDS)]
    said = pinned(LOAD_CORE, lambda: subprocess.run(words, capture_output=True, text=True, timeout=SECONDS * 6))
    if said.returncode:
        raise SystemExit(f"error: guess: {said.stderr}")
    return json.loads(said.stdout) | {
        "busy": (gateway.cpu_seconds() - before) / (2 * SECONDS),
        "grown_bytes": gateway.memory("VmHWM") - memory,
    }


def tell(row, lines, judge):
    alone, beside = row["alone"], row["beside"]
    times, grown = beside["p99_us"] / alone["p99_us"], row["grown_bytes"]
    said = judge("p99 during guesses", f"{times:.2f}x", times <= P99_TIMES_MAX, f"<= {P99_TIMES_MAX}x")
    held = judge("memory during guesses", f"{grown >> 20} MiB", grown <= GROWTH_BYTES_MAX, "<= 32 MiB")
    lines.append(f"Bad keys: {row['sent_per_second']} a second, {row['closed']} connections closed")
    lines.append(
        f"  a healthy caller's p99 is {alone['p99_us']:.0f} us alone, {beside['p99_us']:.0f} us beside them: {times:.2f}x {said};"
        f" p50 {alone['p50_us']:.0f} and {beside['p50_us']:.0f} us"
    )
    lines.append(f"  memory grows by {grown / (1 << 20):.1f} MiB: {held}")
    lines.append("")
