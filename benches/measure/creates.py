"""Instances created a second: each is checked, written down, placed, and taken by a host that takes everything at once."""

import json
import statistics

import calls
from processes import LOAD_CORE
from seed import Caller

CREATES = 1_000
WARM_UP = 100


def measure(new_gateway, peer, bundle, folder, rounds, say):
    taken = []
    with peer("host", core=LOAD_CORE) as host:
        for turn in range(rounds):
            say(f"creates instances, round {turn + 1} of {rounds}")
            fleet = f"coordinator:http://127.0.0.1:{host.port}"
            with new_gateway(folder / f"creates-{turn}", PORTICO_FLEET=fleet) as gateway:
                admin = Caller(gateway.port)
                deployment, key = admin.upload(bundle, "1.0.0")["deployment_id"], admin.new_tenant_key()
                body = json.dumps({"deployment_id": deployment}).encode()
                headers = {"authorization": f"Bearer {key}"}
                door = calls.Door("create", "gateway", 1, "/api/v1/instances", "application/json", body, headers)
                taken.append(calls.load(door, gateway, folder, CREATES, 1, WARM_UP))
    return {what: statistics.median(one[what] for one in taken) for what in ("cpu_us", "per_second", "busy")}


def tell(row, lines, judge):
    lines.append("Instances created: POST /api/v1/instances, records on the embedded store, one host that takes all")
    lines.append(f"  {row['cpu_us']:7.1f} us CPU each, {row['per_second']:.0f} a second on one processor ({row['busy']:.0%} busy)")
    lines.append("")
