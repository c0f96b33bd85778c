"""The tunnel across hosts against a direct connection to the same host, and what idle pairs take.

Round trips go to an agent's seat on a real coordinator. Idle pairs are held at a host that does nothing but echo, so that
there can be as many instances as 8,000 sockets need, and nothing is measured but the gateway.
"""

from processes import LOAD_CORE, Server
from seed import Caller
from sockets import PING, SOCKETS_OF_INSTANCE, instances, round_trips, tell_round_trips

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
    (folder / "tunnel/blobs").mkdir(parents=True)
    with coordinator(program, folder) as host:
        fleet = f"coordinator:http://127.0.0.1:{host.port}"
        with new_gateway(folder / "tunnel", PORTICO_FLEET=fleet) as gateway:
            admin = Caller(gateway.port)
            deployment, key = admin.upload(bundle, "1.0.0")["deployment_id"], admin.new_tenant_key()
            Caller(gateway.port, key).new_instance(deployment, "bench-0")
            tunnel = (f"127.0.0.1:{gateway.port}/agent/bench-#", key, PING, '"pong"')
            direct = (f"127.0.0.1:{host.port}/agent/bench-#", "", PING, '"pong"')
            ways = {"tunnel": (gateway, *tunnel), "direct": (host, *direct)}
            result = round_trips(driver, "tunnel across hosts", SHAPES, ways, rounds, say)
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
    tell_round_trips(rows, lines)
    idle = rows["idle"]
    said = judge("idle pair", f"{idle['bytes']:.0f} B", idle["bytes"] <= PAIR_BYTES_MAX, f"<= {PAIR_BYTES_MAX} B")
    lines.append(f"  {idle['pairs']} idle pairs, a client's socket and one to the host each, take {idle['bytes']:.0f} bytes each: {said}")
    lines.append("  CPU is the gateway's for the tunnel, the coordinator's for the direct connection.")
    lines.append("")
