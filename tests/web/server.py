"""A real `screen serve` process, that tests may ask, end and kill."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import httpx

from tests.conftest import screen_environment

STARTS_S = 120  # on a machine with much else to do


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server of a site, or of none; `client` asks it."""

    def __init__(self, *options, log, command=None, cwd=None, environment=None):
        self.port, self.log = free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        wanted = command or [sys.executable, "-m", "worker", "serve", *map(str, options)]
        if command is None:
            wanted += ["--port", str(self.port)]
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                wanted,
                cwd=cwd,
                env=screen_environment() | {"PORT": str(self.port)} | (environment or {}),
                stderr=said,
                stdout=said,
                start_new_session=True,
            )
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def wait(self, path="/ping", status=200):
        """Until it answers so."""
        return until(lambda: self._answers(path, status), f"{path} answers {status}", self.said)

    def _answers(self, path, status):
        assert self.process.poll() is None, self.said()
        with contextlib.suppress(httpx.TransportError):
            return self.client.get(path).status_code == status

    def said(self):
        return self.log.read_text(errors="replace")[-3000:]

    def end(self):
        """SIGTERM; the exit code, and how many seconds it took."""
        began_s = time.monotonic()
        self.process.terminate()
        return self.process.wait(120), time.monotonic() - began_s

    def kill(self):
        """SIGKILL, to the server and its worker."""
        for process in (*self.children(), self.process.pid):  # a worker has a session of its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        self.process.wait(30)
        self.client.close()

    def children(self):
        """Process ids of its children."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(line) for line in found.stdout.split()]


def until(is_so, what, explain=lambda: "", within_s=STARTS_S):
    """Wait for something to become true, with a bound."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if found := is_so():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s: {what}\n{explain()}")
