"""`screen serve --watch` as a real process: real films, live events, signals."""

import contextlib
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import sha256
from tests.web.server import Server, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def serving(new_desk, tiny_model, tmp_path_factory):
    """A server with its worker; the model has random weights."""
    desk = new_desk()
    with (desk.config.root / "config.toml").open("a") as file:
        file.write(f'[model]\nname = "{tiny_model}"\n[decode]\nprocesses = 1\n')
    log = tmp_path_factory.mktemp("log") / "serve"
    server = Server("--watch", "--config", desk.config.root / "config.toml", log=log)
    try:
        server.wait("/healthz")
        yield desk, server
    finally:
        server.kill()


def send(server, path):
    answer = server.client.post(f"/api/films?name={path.name}", content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    return answer.json()["sha256"]


def answered(server, digests):
    asked = server.client.get("/api/films", params={"sha256": digests}).json()
    return all(each["result"] for each in asked) and asked


def test_every_film_that_is_sent_comes_to_an_end(serving, sample_films):
    desk, server = serving
    films = sorted(sample_films.rglob("*.jpeg")) or sorted(sample_films.rglob("*.*"))
    digests = [send(server, path) for path in films]
    assert digests == [sha256(path.read_bytes()) for path in films]
    assert len(films) == 16
    said = until(lambda: answered(server, digests), "all are answered", server.said, 240)
    assert {each["result"]["status"] for each in said} == {"screened"}
    assert [Path(each["result"]["file"]).name for each in said] == [p.name for p in films]
    until(lambda: len([p for p in desk.site.done.rglob("*") if p.is_file()]) == 16, "all are done")
    assert desk.names("inbox") == []
    for each in said:
        page = server.client.get(f"/reports/{each['result']['page']}")
        assert page.status_code == 200


def test_a_listener_sees_a_film_come_and_its_decision(serving, sample_films):
    _, server = serving
    film = next(path for path in sorted(sample_films.rglob("*")) if path.is_file())
    with server.client.stream("GET", "/api/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.iter_lines()
        first = [next(lines) for _ in range(2)]
        assert first[0] == "event: now"
        assert first[1].startswith("data: ")
        name = "a-film-of-its-own.jpeg"
        server.client.post(f"/api/films?name={name}", content=film.read_bytes() + b"\0")
        end_s = time.monotonic() + 60
        shown = next(line for line in lines if name in line or time.monotonic() > end_s)
        assert name in shown


def test_a_worker_that_is_killed_comes_again(serving):
    _, server = serving
    (worker,) = server.children()
    os.kill(worker, signal.SIGKILL)
    until(lambda: server.children() not in ([], [worker]), "another worker", server.said)
    server.wait("/healthz")


def test_sigterm_ends_server_and_worker_though_somebody_listens(serving):
    """Listeners held the server up for five seconds, and were then cut off as an error."""
    _, server = serving
    server.wait("/healthz")
    workers = server.children()
    with contextlib.suppress(httpx.TransportError), server.client.stream("GET", "/api/events") as e:
        next(e.iter_lines())
        code, _ = server.end()
    assert code in (0, -signal.SIGTERM), server.said()
    assert workers
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert "timeout graceful shutdown exceeded" not in server.said()


def test_an_impatient_ctrl_c_ends_server_and_worker(serving):
    """The second one left out the end of the server's life: its threads kept the worker alive."""
    desk, _ = serving
    log = desk.config.root.parent / "impatient"
    server = Server("--config", desk.config.root / "config.toml", log=log)
    try:
        server.wait()
        with httpx.stream("GET", f"{server.url}/api/events"):  # keeps the first one waiting
            for _ in range(2):
                server.process.send_signal(signal.SIGINT)
                time.sleep(0.2)
            assert server.process.wait(60) in (0, 130)
    finally:
        server.kill()
