"""Uploads into MinIO through the gateway against a direct put by the same SDK, and what the gateway takes for it."""

import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

from processes import LOAD_CORE, SERVER_CORE, Server, pinned
from seed import Caller, large_bundle

SIZES = {"256 MiB": 256 << 20, "1 GiB": 1 << 30}
SHARE_MIN = 0.85
GROWTH_BYTES_MAX = 64 << 20
# How much more memory four times the bytes may take.
FLAT_BYTES_MAX = 16 << 20
PATIENCE_SECONDS = 300
NO_HOST = "coordinator:http://127.0.0.1:1"
USER, PASSWORD, BUCKET = "portico-bench", "portico-bench-secret", "bundles"


def minio(folder):
    tools = Path(os.environ.get("PORTICO_TOOLS", Path.home() / ".cache/portico-tools"))
    (folder / "minio" / BUCKET).mkdir(parents=True)
    words = [tools / "bin/minio", "server", "--quiet", "--address", "127.0.0.1:{port}", folder / "minio"]
    environment = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "MINIO_BROWSER": "off"}
    return Server("minio", words, folder / "minio.log", environment, LOAD_CORE)


def measure(new_gateway, put, folder, rounds, say):
    result = {}
    with minio(folder) as store:
        keys = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": PASSWORD}
        blobs = f"s3://{BUCKET}?endpoint=http://127.0.0.1:{store.port}&region=us-east-1"
        # Hosts are elsewhere, as in production: what is measured is the way into the store, not how a host fetches it.
        with new_gateway(folder / "objects", PORTICO_BLOBS=blobs, PORTICO_FLEET=NO_HOST, **keys) as gateway:
            caller = Caller(gateway.port)
            for number, (name, size) in enumerate(SIZES.items()):
                bundle = large_bundle(folder / "large.tar.gz", size)
                mebibytes = bundle.stat().st_size / (1 << 20)
                through, direct, grown, cpu = [], [], [], []
                for turn in range(rounds):
                    say(f"an upload of {name} to MinIO, round {turn + 1} of {rounds}")
                    gateway.forget_peak()
                    memory, before, started = gateway.memory(), gateway.cpu_seconds(), time.monotonic()
                    # The store has its processor for itself both times.
                    pinned(SERVER_CORE, lambda: caller.upload(bundle, f"{number}.{turn}.0"))
                    through.append(mebibytes / (time.monotonic() - started))
                    cpu.append((gateway.cpu_seconds() - before) / mebibytes * 1e3)
                    grown.append(gateway.memory("VmHWM") - memory)
                    words = [put, f"http://127.0.0.1:{store.port}", BUCKET, f"direct-{number}-{turn}", bundle]
                    run = lambda: subprocess.run(
                        [str(word) for word in words],
                        capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=os.environ | keys,
                    )
                    said = pinned(SERVER_CORE, run)
                    if said.returncode:
                        raise SystemExit(f"error: put: {said.stderr}")
                    direct.append(mebibytes / float(said.stdout))
                bundle.unlink()
                result[name] = {
                    "mib_per_second": statistics.median(through),
                    "direct_mib_per_second": statistics.median(direct),
                    "share": statistics.median(ours / theirs for ours, theirs in zip(through, direct)),
                    "cpu_ms_per_mib": statistics.median(cpu),
                    "grown_bytes": max(grown),
                }
    for used in ("minio", "objects"):
        shutil.rmtree(folder / used)
    return result


def tell(rows, lines, judge):
    lines.append("Upload to MinIO: through the gateway, which receives, checks and digests it, against a put by the same SDK")
    for name, row in rows.items():
        share, grown = row["share"], row["grown_bytes"]
        said = judge(f"upload of {name} to MinIO", f"{share:.2f}x", share >= SHARE_MIN, f">= {SHARE_MIN}x")
        held = judge(f"upload of {name} to MinIO, memory", f"{grown >> 20} MiB", grown <= GROWTH_BYTES_MAX, "<= 64 MiB")
        lines.append(
            f"  {name:8} {row['mib_per_second']:7.0f} MiB/s, direct {row['direct_mib_per_second']:.0f}: {share:.2f}x {said};"
            f" {row['cpu_ms_per_mib']:.2f} ms CPU per MiB, memory grows by {grown / (1 << 20):.1f} MiB: {held}"
        )
    small, large = (rows[name]["grown_bytes"] for name in SIZES)
    said = judge("memory of uploads", f"{(large - small) >> 20} MiB more", large - small <= FLAT_BYTES_MAX, "flat")
    lines.append(f"  1 GiB takes {(large - small) / (1 << 20):.1f} MiB more than 256 MiB: {said}")
    lines.append("")
