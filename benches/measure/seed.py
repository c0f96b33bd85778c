"""A gateway's data to measure with, made through its own doors: a deployment, a tenant's key, an instance."""

import io
import json
import os
import subprocess
import tarfile
import time
from pathlib import Path

ADMIN_KEY = "pod_admin_" + "b" * 40
AGENT_TYPE = "bench-agent"
READY_PATIENCE_SECONDS = 30
# Random content, so that nothing about it is cheap; in several files, since one may not be larger than 512 MiB.
PART_BYTES = 64 << 20


class Caller:
    """Calls the REST door with curl, as a person would."""

    def __init__(self, port, key=ADMIN_KEY):
        self.base = f"http://127.0.0.1:{port}"
        self.key = key

    def call(self, verb, path, *words, body=None):
        command = ["curl", "-sS", "-X", verb, "-H", f"authorization: Bearer {self.key}", "-w", "\n%{http_code}"]
        if body is not None:
            command += ["-H", "content-type: application/json", "--data-binary", json.dumps(body)]
        said = subprocess.run([*command, *words, self.base + path], capture_output=True, text=True)
        answer, _, status = said.stdout.rpartition("\n")
        if not status.startswith("2"):
            raise SystemExit(f"error: {verb} {path} answers {status}: {answer} {said.stderr}")
        return json.loads(answer) if answer.strip() else {}

    def upload(self, bundle, version, *words):
        fields = [("agent_type", AGENT_TYPE), ("version", version), ("file", f"@{bundle}")]
        return self.call("POST", "/api/v1/deployments", *words, *(w for n, v in fields for w in ("-F", f"{n}={v}")))

    def new_tenant_key(self):
        return self.call("POST", "/api/v1/keys", body={"tenant_id": "bench"})["key"]

    def new_instance(self, deployment_id, name=""):
        body = {"deployment_id": deployment_id, "agent_id": name}
        instance = self.call("POST", "/api/v1/instances", body=body)["instance_id"]
        end = time.monotonic() + READY_PATIENCE_SECONDS
        while time.monotonic() < end:
            status = self.call("GET", f"/api/v1/instances/{instance}")["status"]
            if status == "ready":
                return instance
            if status in ("failed", "terminated"):
                break
            time.sleep(0.1)
        raise SystemExit(f"error: the instance is {status}")


def agent_bundle(agent: Path, to: Path):
    with tarfile.open(to, "w:gz") as bundle:
        for file in sorted(agent.iterdir()):
            if file.is_file():
                bundle.add(file, file.name)
    return to


def large_bundle(to: Path, size):
    """A bundle of about `size` bytes, stored rather than compressed: what it costs is receiving, hashing and checking."""
    part = os.urandom(PART_BYTES)
    with tarfile.open(to, "w:gz", compresslevel=0) as bundle:
        for number in range(max(1, size // PART_BYTES)):
            entry = tarfile.TarInfo(f"part-{number:02}")
            entry.size = PART_BYTES
            bundle.addfile(entry, io.BytesIO(part))
    return to
