"""The doors: how the same read is asked for through each, and how it is checked and loaded."""

import json
import re
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from processes import LOAD_CORE, pinned

METHOD = "/podium.v1.DeploymentsService/GetDeployment"
PATIENCE_SECONDS = 120
WARM_UP_REQUESTS = 1_000
# Sixteen calls in flight on HTTP/1.1, thirty-two on HTTP/2: enough to keep one processor busy, few enough not to queue.
CONNECTIONS = {1: ["--h1", "-c", "16"], 2: ["-c", "4", "-m", "8"]}


@dataclass
class Door:
    """One way to ask one server."""

    name: str
    server: str
    version: int
    path: str
    media_type: str = ""
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    against: dict = field(default_factory=dict)  # peer -> its door

    @property
    def key(self):
        return f"{self.server}: {self.name}"


def envelope(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


def doors(deployment_id, key):
    """Every door of the gateway, then those of its peers."""
    id_bytes = deployment_id.encode()
    message = b"\x0a" + bytes([len(id_bytes)]) + id_bytes
    question = json.dumps({"deploymentId": deployment_id}).encode()
    rest = "/api/v1/deployments/" + quote(deployment_id, safe="")
    bearer = {"authorization": f"Bearer {key}"}
    connect = {"connect-protocol-version": "1"}
    shapes = [
        ("REST JSON", (1, 2), rest, "", b"", {}),
        ("Connect JSON", (1, 2), METHOD, "application/json", question, connect),
        ("Connect proto", (1, 2), METHOD, "application/proto", message, connect),
        ("gRPC", (2,), METHOD, "application/grpc", envelope(message), {"te": "trailers"}),
        ("gRPC-Web", (1,), METHOD, "application/grpc-web+proto", envelope(message), {"x-grpc-web": "1"}),
    ]
    gateway, peers = [], []
    for name, versions, path, media_type, body, headers in shapes:
        for version in versions:
            label = f"{name} h{version}"
            against = {"bare": f"bare: {'GET' if name == 'REST JSON' else 'POST'} JSON h{version}"}
            if name != "REST JSON":
                against["stack"] = f"stack: {label}"
                peers.append(Door(label, "stack", version, path, media_type, body, headers))
            gateway.append(Door(label, "gateway", version, path, media_type, body, headers | bearer, against))
    for version in (1, 2):
        peers.append(Door(f"GET JSON h{version}", "bare", version, rest))
        peers.append(Door(f"POST JSON h{version}", "bare", version, "/deployment", "application/json", question))
    return gateway, peers


def headers_of(door):
    headers = dict(door.headers)
    if door.media_type:
        headers["content-type"] = door.media_type
    return [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]


def check(door, port, folder, deployment_id):
    """Asks once and makes sure that the answer is the deployment, so that no fast refusal is measured. Answers its size."""
    body, answer, head = (folder / name for name in ("body", "answer", "head"))
    body.write_bytes(door.body)
    command = ["curl", "-sS", "-o", answer, "-D", head, "-w", "%{http_code} %{size_download}"]
    command += ["--http2-prior-knowledge"] if door.version == 2 else ["--http1.1"]
    command += headers_of(door) + (["--data-binary", f"@{body}"] if door.body else [])
    said = subprocess.run([*command, f"http://127.0.0.1:{port}{door.path}"], capture_output=True, text=True)
    status, _, size = said.stdout.partition(" ")
    content = answer.read_bytes() if answer.exists() else b""
    right = status == "200" and deployment_id.encode() in content
    if door.name.startswith("gRPC"):
        trailers = content if "Web" in door.name else head.read_bytes()
        right = right and b"grpc-status:0" in trailers.lower().replace(b" ", b"")
    if not right:
        raise SystemExit(f"error: {door.key} answers {status}: {content[:300]!r} {said.stderr}")
    return int(size)


def load(door, server, folder, requests, size, warm_up=WARM_UP_REQUESTS):
    """Sends many and answers what each cost the server."""
    body = folder / "body"
    body.write_bytes(door.body)
    h2load = ["h2load", "-t", "1", *CONNECTIONS[door.version], *headers_of(door)]
    h2load += ["-d", str(body)] if door.body else []
    url = f"http://127.0.0.1:{server.port}{door.path}"

    def send(count):
        command = [*h2load, "-n", str(count), url]
        run = lambda: subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        return pinned(LOAD_CORE, run).stdout

    send(warm_up)
    before = server.cpu_seconds()
    said = send(requests)
    cpu = server.cpu_seconds() - before
    succeeded = re.search(r"(\d+) succeeded", said)
    data = re.search(r"\((\d+)\) data", said)
    rate = re.search(r"finished in ([\d.]+)(ms|s), ([\d.]+) req/s", said)
    if not (succeeded and data and rate) or int(succeeded[1]) != requests:
        raise SystemExit(f"error: {door.key}: not every request succeeded\n{said}")
    # HTTP/1.1 may add chunk sizes; a refusal would be shorter.
    if int(data[1]) < requests * size:
        raise SystemExit(f"error: {door.key}: answers were smaller than the one that was checked\n{said}")
    seconds = float(rate[1]) / (1_000 if rate[2] == "ms" else 1)
    return {"cpu_us": cpu / requests * 1e6, "per_second": float(rate[3]), "busy": cpu / seconds}


def unary(servers, gateway_doors, peer_doors, folder: Path, deployment_id, requests, rounds, say):
    """Every door in turn, round after round. Answers by door the medians, and the medians of the ratios within a round."""
    every = gateway_doors + peer_doors
    sizes = {door.key: check(door, servers[door.server].port, folder, deployment_id) for door in every}
    taken = {door.key: [] for door in every}
    for turn in range(rounds):
        say(f"unary, round {turn + 1} of {rounds}")
        # Every other round backwards, so that a slow drift of the machine does not favour one side.
        for door in every if turn % 2 == 0 else reversed(every):
            taken[door.key].append(load(door, servers[door.server], folder, requests, sizes[door.key]))
    median = lambda key, what: statistics.median(one[what] for one in taken[key])
    result = {}
    for door in every:
        row = {what: median(door.key, what) for what in ("cpu_us", "per_second", "busy")}
        row["bytes"] = sizes[door.key]
        for peer, other in door.against.items():
            pairs = zip(taken[door.key], taken[other])
            row[f"{peer}_cpu_us"] = median(other, "cpu_us")
            row[f"of_{peer}"] = statistics.median(theirs["cpu_us"] / ours["cpu_us"] for ours, theirs in pairs)
        result[door.key] = row
    return result
