"""Choosing a host: what a decision costs in a fleet of a thousand hosts, and that it costs no more with more instances."""

import json
import subprocess

from processes import SERVER_CORE, pinned

CPU_US_MAX = 50
# Between the emptiest and the fullest fleet; what is left is the noise of the machine.
GROWTH_MAX = 1.25


def measure(program, rounds, say):
    """The median of the rounds, by the number of instances."""
    taken = {}
    for _ in range(rounds):
        said = pinned(SERVER_CORE, lambda: subprocess.run([program], capture_output=True, text=True, check=True))
        for row in map(json.loads, said.stdout.splitlines()):
            taken.setdefault(row["instances"], []).append(row)
    rows = {count: sorted(of, key=lambda row: row["cpu_us"])[len(of) // 2] for count, of in taken.items()}
    for count, row in rows.items():
        say(f"placement among {row['hosts']} hosts with {count} instances: {row['cpu_us']:.1f} us")
    return rows


def tell(rows, lines, judge):
    lines.append("Placement: one decision among 1,000 hosts with 40 bundles each, equally loaded, 64 instances on their way")
    for count, row in rows.items():
        name, figure = f"a decision at {count} instances", f"{row['cpu_us']:.1f} us"
        said = judge(name, figure, row["cpu_us"] <= CPU_US_MAX, f"<= {CPU_US_MAX} us")
        lines.append(f"  {int(count):7,} instances {row['cpu_us']:6.1f} us CPU {row['per_second']:8.0f} a second: {said}")
    costs = [row["cpu_us"] for row in rows.values()]
    growth = costs[-1] / costs[0]
    said = judge("growth of a decision", f"{growth:.2f}x", growth <= GROWTH_MAX, f"<= {GROWTH_MAX}x")
    lines.append(f"  A hundred times as many instances cost {growth:.2f}x: {said}")
    lines.append("")
