"""What is shared between gateways: rate limits in Valkey, and keys in PostgreSQL whose revocations Valkey tells of."""

import http.client
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import calls
from processes import LOAD_CORE, Server, pinned
from seed import Caller

KEYS = 2_000
# A key is known for five seconds without asking the store again; this is longer.
FORGOTTEN_SECONDS = 6
START = """bin=$1 port=$2 folder=$3
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; fi
as "$bin/initdb" -D "$folder/cluster" -U portico -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
set -- "$bin/postgres" -D "$folder/cluster" -p "$port" -k "$folder" -h 127.0.0.1
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"; else exec "$@"; fi"""


def valkey(folder):
    root = Path(os.environ.get("PORTICO_TOOLS", Path.home() / ".cache/portico-tools")) / "trixie/root"
    lib = root / "usr/lib/x86_64-linux-gnu"
    words = [lib / "ld-linux-x86-64.so.2", "--library-path", lib, root / "usr/bin/valkey-server"]
    words += ["--bind", "127.0.0.1", "--port", "{port}", "--save", "", "--daemonize", "no"]
    return Server("valkey", words, folder / "valkey.log", core=LOAD_CORE)


def postgres(home, folder):
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if programs is None:
        raise SystemExit("error: PostgreSQL is not installed: run `make tools`")
    script = folder / "postgres.sh"
    script.write_text(START)
    words = ["sh", script, programs, "{port}", home]
    return Server("postgres", words, folder / "postgres.log", core=LOAD_CORE)


def measure(new_gateway, bundle, folder, requests, rounds, say):
    # Elsewhere than the rest: PostgreSQL runs as a user of its own, who may not enter everywhere.
    elsewhere = tempfile.TemporaryDirectory(prefix="portico-bench-")
    with elsewhere as home, valkey(folder) as registry, postgres(home, folder) as records:
        places = {
            "PORTICO_RECORDS": f"postgres://portico@127.0.0.1:{records.port}/postgres?sslmode=disable",
            "PORTICO_BUS": f"valkey://127.0.0.1:{registry.port}",
            "PORTICO_SECRETS_KEY": "0" * 63 + "1",
        }
        shared = {"PORTICO_REGISTRY": f"valkey://127.0.0.1:{registry.port}"}
        limits = {"PORTICO_LIMITS": "on", "PORTICO_RATE_REQUESTS_PER_MINUTE": "100000000", "PORTICO_RATE_BURST": "1000000"}
        ways = {"no limits": {}, "limits of one gateway": limits, "limits in Valkey": limits | shared}
        taken, key, deployment = {way: [] for way in ways}, None, None
        for turn in range(rounds):
            for way, environment in ways.items():
                say(f"{way}, round {turn + 1} of {rounds}")
                with new_gateway(folder / "shared", **(places | environment)) as gateway:
                    if key is None:
                        admin = Caller(gateway.port)
                        deployment, key = admin.upload(bundle, "1.0.0")["deployment_id"], admin.new_tenant_key()
                    path = "/api/v1/deployments/" + quote(deployment, safe="")
                    door = calls.Door(way, "gateway", 1, path, headers={"authorization": f"Bearer {key}"})
                    before = registry.cpu_seconds()
                    one = calls.load(door, gateway, folder, requests, 1)
                    one["valkey_cpu_us"] = (registry.cpu_seconds() - before) / requests * 1e6
                    taken[way].append(one)
        result = {
            way: {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}
            for way, rounds in taken.items()
        }
        say(f"{KEYS} keys, cold and warm")
        with new_gateway(folder / "shared", **(places | shared)) as gateway:
            result["keys"] = pinned(LOAD_CORE, lambda: keys(gateway))
        return result


def keys(gateway):
    """The same call with each of many keys, first when none of them is known, then when all are."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)

    def ask(verb, path, key, body=None):
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        started = time.perf_counter()
        connection.request(verb, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"error: {verb} {path} answers {answer.status}: {text[:300]!r}")
        return json.loads(text), (time.perf_counter() - started) * 1e6

    admin = Caller(gateway.port).key
    made = [ask("POST", "/api/v1/keys", admin, {"tenant_id": "bench"})[0]["key"] for _ in range(KEYS)]
    time.sleep(FORGOTTEN_SECONDS)
    result = {}
    for which in ("cold", "warm"):
        before = gateway.cpu_seconds()
        took = sorted(ask("GET", "/api/v1/config", key)[1] for key in made)
        result[which] = {
            "p50_us": took[len(took) // 2],
            "p99_us": took[len(took) * 99 // 100],
            "cpu_us": (gateway.cpu_seconds() - before) / KEYS * 1e6,
        }
    return result


def tell(rows, lines, judge):
    lines.append("Limits and keys, on PostgreSQL and Valkey on the load's processor")
    alone = rows["no limits"]
    for way, row in rows.items():
        if way != "keys":
            more = row["cpu_us"] - alone["cpu_us"]
            lines.append(
                f"  {way:22} {row['cpu_us']:7.1f} us CPU a call ({more:+.1f}), {row['per_second']:.0f} a second;"
                f" Valkey {row['valkey_cpu_us']:.1f} us CPU"
            )
    for which, row in rows["keys"].items():
        lines.append(
            f"  a key that is {which:4} {row['p50_us']:7.0f} us at the middle, {row['p99_us']:.0f} at 99 of 100; {row['cpu_us']:.1f} us CPU"
        )
    lines.append("")
