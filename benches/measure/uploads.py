"""Uploads: how fast they go and how much memory they take."""

import time
from pathlib import Path

from processes import LOAD_CORE, pinned
from seed import Caller, large_bundle

SIZES = {"256 MiB": 256 << 20, "1 GiB": 1 << 30}
SETTLE_SECONDS = 1


def measure(gateway, folder: Path, say):
    caller = Caller(gateway.port)
    result = {}
    for number, (name, size) in enumerate(SIZES.items()):
        say(f"an upload of {name}")
        bundle = large_bundle(folder / "large.tar.gz", size)
        time.sleep(SETTLE_SECONDS)
        gateway.forget_peak()
        memory, cpu, started = gateway.memory(), gateway.cpu_seconds(), time.monotonic()
        answer = pinned(LOAD_CORE, lambda: caller.upload(bundle, f"9.{number}.0"))
        seconds = time.monotonic() - started
        if answer["size_bytes"] not in (bundle.stat().st_size, str(bundle.stat().st_size)):
            raise SystemExit(f"error: the upload answered {answer}")
        mebibytes = bundle.stat().st_size / (1 << 20)
        result[name] = {
            "mib_per_second": mebibytes / seconds,
            "cpu_ms_per_mib": (gateway.cpu_seconds() - cpu) / mebibytes * 1e3,
            "grown_bytes": gateway.memory("VmHWM") - memory,
        }
        bundle.unlink()
    return result
