"""Asks a Prometheus every query of the dashboard and of the alerts: each must be understood, and each of the dashboard
must find something in what a gateway with calls behind it tells."""

import argparse
import functools
import io
import json
import pathlib
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

PAUSE_SECONDS = 0.5
# What Prometheus answers about a query that it cannot read or carry out.
NOT_UNDERSTOOD = (400, 422)
DEPLOY = pathlib.Path(__file__).parents[2] / "deploy"
ECHO = pathlib.Path(__file__).parents[2] / "examples/agents/echo"


def main() -> None:
    arguments = argparse.ArgumentParser()
    for name in ("gateway", "key", "prometheus"):
        arguments.add_argument(f"--{name}", required=True)
    arguments.add_argument("--seconds-max", type=float, required=True)
    told = arguments.parse_args()
    deadline = time.monotonic() + told.seconds_max
    wait(f"{told.gateway}/health", deadline)
    # It listens before it answers queries, and says 503 in between.
    wait(f"{told.prometheus}/-/ready", deadline)

    shown = list(dashboard())
    assert len(shown) > 10, "the dashboard holds hardly any query"
    unanswered = dict(shown)
    while unanswered:
        call(told.gateway, told.key)
        for title, query in list(unanswered.items()):
            if ask(told.prometheus, query, deadline):
                del unanswered[title]
        if unanswered and time.monotonic() > deadline:
            sys.exit("\n".join(f"finds nothing: {title}: {query}" for title, query in unanswered.items()))
        time.sleep(PAUSE_SECONDS)
    rules = alerts()
    for query in rules:
        ask(told.prometheus, query, deadline)
    print(f"{len(shown)} queries of the dashboard find something, {len(rules)} of the alerts are understood")


def wait(url: str, deadline: float) -> None:
    """Until what is behind the address is up."""
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except OSError as refused:
            if time.monotonic() > deadline:
                sys.exit(f"not up: {url}: {refused}")
        time.sleep(PAUSE_SECONDS)


def call(gateway: str, key: str) -> None:
    """Calls that succeed, with a body each way, one that fails and one that the gate refuses; among them an upload, and
    a start of what was uploaded."""
    json_type = "application/json"
    for path, credential, content_type, body in (
        ("/health", "", json_type, None),
        ("/api/v1/keys", key, json_type, b'{"tenant_id": "acme", "name": "deploy"}'),
        ("/api/v1/instances/nobody", key, json_type, None),
        ("/api/v1/instances", "wrong", json_type, None),
        ("/api/v1/deployments", key, "multipart/form-data; boundary=b", form()),
        ("/api/v1/instances", key, json_type, b'{"agent_type": "echo", "agent_id": "echo"}'),
    ):
        headers = {"Content-Type": content_type}
        if credential:
            headers["Authorization"] = f"Bearer {credential}"
        request = urllib.request.Request(gateway + path, data=body, headers=headers)
        try:
            urllib.request.urlopen(request, timeout=5).read()
        except OSError:
            pass  # refused, as some shall be, or not answered in time: what counts is what the metrics show


@functools.cache
def form() -> bytes:
    """The echo agent as an upload, the same every time."""
    bundle = io.BytesIO()
    with tarfile.open(fileobj=bundle, mode="w:gz") as archive:
        archive.add(ECHO, ".")
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("agent_type", "echo"), ("version", "1.0.0"))
    ]
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="echo.tar.gz"\r\n\r\n'
    return b"".join([*parts, file, bundle.getvalue(), b"\r\n--b--\r\n"])


def ask(prometheus: str, query: str, deadline: float) -> list:
    """What the query finds; exits when it is not understood, or not answered."""
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]["result"]
        except OSError as refused:
            if getattr(refused, "code", None) in NOT_UNDERSTOOD:
                sys.exit(f"not understood: {query}: {refused.read().decode()}")
            if time.monotonic() > deadline:
                sys.exit(f"not answered: {query}: {refused}")
        time.sleep(PAUSE_SECONDS)


def dashboard():
    for panel in json.loads((DEPLOY / "grafana/portico.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "30s")
            yield f"{panel['title']} {target['refId']}", query.replace("$job", ".*").replace("$instance", ".*")


def alerts() -> list:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


main()
