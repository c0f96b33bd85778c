"""The tunnel across hosts against a direct connection to the same host, and what idle pairs take.

Round trips go to an agent's seat on a real coordinator. Idle pairs are held at a host that does nothing but echo, so that
there can be as many instances as 8,000 sockets need, and nothing is measured but the gateway.
"""

import statistics

from processes import LOAD_CORE, Server
from seed import Caller
from sockets import PING, SOCKETS_OF_INSTANCE, instances

IDLE_PAIRS = 8_000
SHAPES = {"one socket": (1, 3_000), "16 sockets": (SOCKETS_OF_INSTANCE, 600)}
PAIR_BYTES_MAX = 24_000


def coordinator(program, folder):
    environment = {
        "PORTICO_LISTEN": "127.0.0.1:{port}",
        "PORTICO_DATA": str(folder / "host"),
        "PORTICO_BLOBS": f"file:{folder / 'tunnel/blobs'}",
        "PORTICO_FLEET_ID": "bench-host",
    }
    return Server("coordinator", [program, "coordinator"], folder / "coordinator.log", environment, LOAD_CORE)


def measure(new_gateway, peer, driver, program, bundle, folder, rounds, say):
    result = {}
    (folder / "tunnel/blobs").mkdir(parents=True)
    with coordinator(program, folder) as host:
        fleet = f"coordinator:http://127.0.0.1:{host.port}"
        with new_gateway(folder / "tunnel", PORTICO_FLEET=fleet) as gateway:
            admin = Caller(gateway.port)
            deployment, key = admin.upload(bundle, "1.0.0")["deployment_id"], admin.new_tenant_key()
            Caller(gateway.port, key).new_instance(deployment, "bench-0")
            tunnel = (f"127.0.0.1:{gateway.port}/agent/bench-#", key, PING, '"pong"')
            direct = (f"127.0.0.1:{host.port}/agent/bench-#", "", PING, '"pong"')
            for shape, (sockets, count) in SHAPES.items():
                taken = {"tunnel": [], "direct": []}
                for turn in range(rounds):
                    say(f"tunnel across hosts, {shape}, round {turn + 1} of {rounds}")
                    taken["tunnel"].append(driver.round_trips(gateway, *tunnel, sockets, count))
                    taken["direct"].append(driver.round_trips(host, *direct, sockets, count))
                for which, all_rounds in taken.items():
                    result[f"{which}, {shape}"] = {
                        what: statistics.median(one[what] for one in all_rounds)
                        for what in ("p50_us", "p99_us", "cpu_us", "per_second")
                    }
    with peer("host", core=LOAD_CORE) as host:
        fleet = f"coordinator:http://127.0.0.1:{host.port}"
        with new_gateway(folder / "pairs", PORTICO_FLEET=fleet) as gateway:
            admin = Caller(gateway.port)
            deployment, key = admin.upload(bundle, "1.0.0")["deployment_id"], admin.new_tenant_key()
            instances(Caller(gateway.port, key), deployment, IDLE_PAIRS, say)
            say(f"{IDLE_PAIRS} idle pairs")
            pair = (f"127.0.0.1:{gateway.port}/agent/bench-#", key, PING, "")
            result["idle"] = {"pairs": IDLE_PAIRS, "bytes": driver.idle_bytes(gateway, IDLE_PAIRS, *pair)}
    return result


def tell(rows, lines, judge):
    lines.append("Tunnel across hosts: client, gateway and coordinator are three processes, the client beside the coordinator")
    lines.append(f"  {'':24} {'p50 us':>7} {'p99 us':>7} {'us CPU':>7} {'trips/s':>8}")
    for name, row in rows.items():
        if name != "idle":
            lines.append(
                f"  {name:24} {row['p50_us']:7.0f} {row['p99_us']:7.0f} {row['cpu_us']:7.1f} {row['per_second']:8.0f}"
            )
    idle = rows["idle"]
    said = judge("idle pair", f"{idle['bytes']:.0f} B", idle["bytes"] <= PAIR_BYTES_MAX, f"<= {PAIR_BYTES_MAX} B")
    lines.append(f"  {idle['pairs']} idle pairs, a client's socket and one to the host each, take {idle['bytes']:.0f} bytes each: {said}")
    lines.append("  CPU is the gateway's for the tunnel, the coordinator's for the direct connection.")
    lines.append("")
