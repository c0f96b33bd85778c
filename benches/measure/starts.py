"""The start: from exec to the first good answer, what an idle gateway takes, how large the program is."""

import shutil
import socket
import statistics
import time

PATIENCE_SECONDS = 20
RUNS = 10
IDLE_SECONDS = 3
QUESTION = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def until_healthy(server):
    """Starts it and answers after how many milliseconds /health said 200."""
    started = time.perf_counter()
    server.start()
    while time.perf_counter() - started < PATIENCE_SECONDS:
        try:
            with socket.create_connection(("127.0.0.1", server.port), 1) as asked:
                asked.sendall(QUESTION)
                if asked.recv(64).startswith(b"HTTP/1.1 200"):
                    return (time.perf_counter() - started) * 1e3
        except OSError:
            pass
    raise SystemExit(f"error: {server.name} was not healthy in time; see {server.log}")


def measure(new_gateway, binary, folder, say):
    say(f"{RUNS} starts")
    again, first = folder / "start", folder / "first"
    for old in (again, first):
        shutil.rmtree(old, ignore_errors=True)
    taken = {"again": [], "first": []}
    for _ in range(RUNS + 1):
        server = new_gateway(again)
        taken["again"].append(until_healthy(server))
        server.stop()
    for _ in range(RUNS):
        server = new_gateway(first)
        taken["first"].append(until_healthy(server))
        server.stop()
        shutil.rmtree(first)
    server = new_gateway(again)
    until_healthy(server)
    time.sleep(IDLE_SECONDS)
    idle, anonymous = server.memory(), server.memory("RssAnon")
    server.stop()
    return {
        # The very first start made the data.
        "cold_ms": statistics.median(taken["again"][1:]),
        "cold_ms_min": min(taken["again"][1:]),
        "first_ms": statistics.median(taken["first"]),
        "idle_bytes": idle,
        "idle_anonymous_bytes": anonymous,
        "binary_bytes": binary.stat().st_size,
    }
