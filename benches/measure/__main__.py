"""Measures the gateway beside its peers. Started by benches/run, which builds them."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import calls
import creates
import guesses
import objects
import placement
import seed
import shared
import sockets
import starts
import table
import tunnel
import uploads
from processes import LOAD_CORE, SERVER_CORE, Server, awake

PARTS = ("unary", "sockets", "upload", "placement", "start", "tunnel", "creates", "objects", "shared", "guesses")
REQUESTS = int(os.environ.get("PORTICO_BENCH_REQUESTS", "20000"))
ROUNDS = int(os.environ.get("PORTICO_BENCH_ROUNDS", "3"))
LOG_LEVEL = os.environ.get("PORTICO_BENCH_LOG_LEVEL", "info")

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FOLDER = TARGET / "bench"
GATEWAY = TARGET / "release" / "portico"


def say(what):
    print(f"    {what}", file=sys.stderr, flush=True)


def gateway(data, **more):
    environment = {
        "PORTICO_LISTEN": "127.0.0.1:{port}",
        "PORTICO_DATA": str(data),
        "PORTICO_ADMIN_KEY": seed.ADMIN_KEY,
        "PORTICO_LIMITS": "off",
        "PORTICO_LOG_LEVEL": LOG_LEVEL,
        "PORTICO_FLEET_INSTANCES_MAX": "128",
        "PORTICO_UPLOADS_BUNDLE_BYTES_MAX": "2GiB",
    }
    return Server("gateway", [GATEWAY, "serve"], FOLDER / "gateway.log", environment | more)


def peer(name, *words, core=SERVER_CORE):
    return Server(name, [TARGET / "release" / name, "{port}", *words], FOLDER / f"{name}.log", core=core)


def main(parts):
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise SystemExit(f"error: no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = parts or PARTS
    os.sched_setaffinity(0, {LOAD_CORE})
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    started = time.monotonic()

    data = FOLDER / "data"
    say("makes a gateway's data")
    bundle = seed.agent_bundle(ROOT / "examples/agents/echo", FOLDER / "agent.tar.gz")
    with gateway(data) as running:
        admin = seed.Caller(running.port)
        deployment = admin.upload(bundle, "1.0.0")["deployment_id"]
        key = admin.new_tenant_key()
    copy = FOLDER / "copy"
    shutil.copytree(data / "records.sqlite", copy)

    driver = sockets.Driver(TARGET / "release" / "drive")
    result = {"settings": settings()}
    with ExitStack() as stack:
        running = stack.enter_context(gateway(data))
        if "unary" in parts:
            servers = {"gateway": running}
            servers |= {name: stack.enter_context(peer(name, copy)) for name in ("bare", "stack")}
            asked = calls.doors(deployment, key)
            with awake(LOAD_CORE):
                result["unary"] = calls.unary(servers, *asked, FOLDER, deployment, REQUESTS, ROUNDS, say)
        if "sockets" in parts:
            echo = stack.enter_context(peer("echo"))
            with awake(LOAD_CORE):
                result["sockets"] = sockets.measure(driver, running, echo, deployment, key, ROUNDS, say)
    if "upload" in parts:
        with gateway(FOLDER / "uploads") as running:
            result["upload"] = uploads.measure(running, FOLDER, say)
        shutil.rmtree(FOLDER / "uploads")
    if "tunnel" in parts:
        with awake(LOAD_CORE):
            result["tunnel"] = tunnel.measure(gateway, peer, driver, GATEWAY, bundle, FOLDER, ROUNDS, say)
    if "creates" in parts:
        with awake(LOAD_CORE):
            result["creates"] = creates.measure(gateway, peer, bundle, FOLDER, ROUNDS, say)
    if "objects" in parts:
        result["objects"] = objects.measure(gateway, TARGET / "release" / "put", FOLDER, ROUNDS, say)
    if "shared" in parts:
        with awake(LOAD_CORE):
            result["shared"] = shared.measure(gateway, bundle, FOLDER, REQUESTS, ROUNDS, say)
    if "guesses" in parts:
        with gateway(data) as running:
            result["guesses"] = guesses.measure(running, TARGET / "release" / "guess", say)
    if "placement" in parts:
        result["placement"] = placement.measure(TARGET / "release" / "place", ROUNDS, say)
    if "start" in parts:
        result["start"] = starts.measure(gateway, GATEWAY, FOLDER, say)

    result["seconds"] = round(time.monotonic() - started)
    (FOLDER / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(table.render(result))
    print(f"Took {result['seconds']} s; the figures are in {FOLDER / 'result.json'}")


def settings():
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "commit": commit,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "requests": REQUESTS,
        "rounds": ROUNDS,
        "log": ", and writes a line per call" if LOG_LEVEL in ("info", "debug", "trace") else "; its call log is off",
    }


main(sys.argv[1:])
