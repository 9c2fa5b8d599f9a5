"""A server that is killed at any moment of an upload: what it said came is there, whole."""

import contextlib
import http.client
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from tests.conftest import screen_environment, sha256
from tests.web.server import Server, free_port, until

pytestmark = pytest.mark.slow

KILLS, SENDERS, SIZE, PIECE = 30, 3, 400_000, 65536


class Sender(threading.Thread):
    """Sends films one after another, in pieces, until its server is gone."""

    def __init__(self, port, number, received, pieces):
        super().__init__()
        self.port, self.number, self.received, self.pieces = port, number, received, pieces

    def run(self):
        for count in range(1000):
            film = os.urandom(SIZE + self.number)
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request(
                    "POST",
                    f"/api/films?name=film-{self.number}-{count}.jpg",
                    body=self._counted(film),
                    headers={"Content-Length": str(len(film))},
                )
                if connection.getresponse().status == 201:
                    self.received.append(sha256(film))
            except (OSError, http.client.HTTPException):
                return

    def _counted(self, film):
        for start in range(0, len(film), PIECE):
            yield film[start : start + PIECE]
            self.pieces.release()


def lying(inbox):
    return {path.name: path.read_bytes() for path in inbox.iterdir()}


@pytest.fixture
def start(desk):
    """Start a server, give its port and process id."""
    config = desk.config.root / "config.toml"
    with config.open("a") as file:
        file.write("[serve]\nuploads_per_minute = 100000\n")
    command = [sys.executable, "-m", "tests.web.forks", str(config)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=screen_environment(),
        text=True,
    ) as forks:

        def start_one():
            port = free_port()
            forks.stdin.write(f"{port}\n")
            forks.stdin.flush()
            child = int(forks.stdout.readline())
            until(lambda: answers(port), "the server answers")
            return port, child

        yield start_one
        forks.stdin.close()


def answers(port):
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200


def test_what_was_answered_with_201_is_there_after_every_kill(desk, start):
    inbox, chance, received, left = desk.site.inbox, random.Random(6), [], 0
    for _ in range(KILLS):
        port, child = start()
        assert not list(inbox.glob(".upload-*")), "a new server removes what was abandoned"
        pieces = threading.Semaphore(0)
        senders = [Sender(port, number, received, pieces) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        for _ in range(chance.randrange(60)):  # the kill comes after so many pieces, not seconds
            assert pieces.acquire(timeout=30)
        os.kill(child, signal.SIGKILL)
        for sender in senders:
            sender.join(30)
        films = lying(inbox)
        left += any(name.startswith(".upload-") for name in films)
        whole = [content for name, content in films.items() if name[0] != "."]
        assert set(received) <= {sha256(content) for content in whole}
        assert all(SIZE <= len(content) < SIZE + SENDERS for content in whole)
    assert len(received) > KILLS
    assert left > 0, "no kill met a film halfway: the test says nothing"


def test_a_new_server_does_not_touch_what_a_living_one_receives(desk, tmp_path):
    config, inbox = desk.config.root / "config.toml", desk.site.inbox
    film = os.urandom(SIZE)
    first = Server("--config", config, log=tmp_path / "first")
    second = None
    try:
        first.wait()
        connection = http.client.HTTPConnection("127.0.0.1", first.port, timeout=60)
        connection.putrequest("POST", "/api/films?name=slow.jpg")
        connection.putheader("Content-Length", str(SIZE))
        connection.endheaders()
        connection.send(film[:100_000])
        until(lambda: list(inbox.glob(".upload-*")), "the film is under way")
        (inbox / ".upload-dead.part").write_bytes(b"half")
        second = Server("--config", config, log=tmp_path / "second")
        second.wait()
        assert not (inbox / ".upload-dead.part").exists()
        connection.send(film[100_000:])
        assert connection.getresponse().status == 201
        assert lying(inbox) == {"slow.jpg": film}
    finally:
        first.kill()
        if second:
            second.kill()
