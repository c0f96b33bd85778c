"""Servers as processes of their own on one processor, and what the kernel says of them."""

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_PATIENCE_SECONDS = 30
STOP_PATIENCE_SECONDS = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(core, start):
    """Runs `start` so that what it starts stays on this core, without a program in between."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return start()
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def awake(core):
    """Keeps a processor from sleeping, by a loop that gives way to everything else.

    Waking a sleeping processor is dear on virtual machines, and whoever wakes it pays: a server that is slower than its
    load would pay with every answer, a quick one seldom. A client elsewhere costs neither of them that.
    """
    loop = pinned(core, lambda: subprocess.Popen(["sh", "-c", "while :; do :; done"]))
    os.sched_setscheduler(loop.pid, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


class Server:
    """A server on a processor, SERVER_CORE if no other is named. `command` contains "{port}" where its port goes."""

    def __init__(self, name, command, log, environment=None, core=SERVER_CORE):
        self.name = name
        self.core = core
        self.port = free_port()
        self.command = [str(word).format(port=self.port) for word in command]
        self.environment = {key: value.format(port=self.port) for key, value in (environment or {}).items()}
        self.log = Path(log)
        self.process = None

    def start(self):
        # Only what a server needs: settings of whoever measures must not change what is measured.
        kept = {name: os.environ[name] for name in ("HOME", "PATH", "LANG", "TMPDIR") if name in os.environ}
        with self.log.open("ab") as log:
            self.process = pinned(
                self.core,
                lambda: subprocess.Popen(
                    self.command, env=kept | self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                ),
            )
        return self

    def wait_until_listening(self):
        end = time.monotonic() + START_PATIENCE_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"error: {self.name} did not start; see {self.log}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_seconds(self):
        """User and system time of all its threads."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS_PER_SECOND

    def memory(self, field="VmRSS"):
        """Bytes, as /proc names them: VmRSS now, VmHWM at most since `forget_peak`, RssAnon without files."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise SystemExit(f"error: no {field} of {self.name}")

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def __enter__(self):
        return self.start().wait_until_listening()

    def __exit__(self, *_):
        self.stop()
