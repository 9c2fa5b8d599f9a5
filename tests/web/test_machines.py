"""What machines are told: metrics, health, and the description of the API."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.heartbeat import Heartbeat, pulse_file


@pytest.fixture
def met(desk, open_room):
    desk.drop(one=b"one", two=b"two", three=b"three", again=b"one")
    desk.work()
    return desk, open_room(desk.config)


def samples(room):
    answer = room.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.databases
def test_metrics_are_what_the_database_says(met):
    desk, room = met
    said = samples(room)
    decisions = dict(desk.rows("SELECT decision, count(*) FROM screenings GROUP BY decision"))
    assert sum(decisions.values()) == 3
    for decision, count in decisions.items():
        assert said["screen_results", decision] == count
    assert said["screen_results", "duplicate"] == 1
    assert said["screen_waiting_files", "inbox"] == 0
    assert said["screen_worker_healthy",] == 0
    assert said["screen_free_bytes", "inbox"] > 0
    assert room.get("/api/status").json()["duplicate"] == 1


def test_metrics_count_what_was_asked_and_sent(desk, room):
    before = samples(room)
    room.post("/api/films", content=b"film")
    room.get("/nothing")
    said = samples(room)
    assert said["screen_uploaded_films_total",] == 1
    assert said["screen_uploaded_bytes_total",] == 4
    assert said["screen_http_requests_total", "201"] == 1
    assert said["screen_http_requests_total", "404"] == 1
    assert (
        said["screen_http_requests_total", "200"]
        == before.get(("screen_http_requests_total", "200"), 0) + 1
    )


def test_a_share_that_is_gone_leaves_the_other_metrics(desk, room):
    """All metrics were gone with it, when they were needed."""
    desk.site.inbox.rmdir()
    said = samples(room)
    assert ("screen_free_bytes", "inbox") not in said
    assert said["screen_free_bytes", "reports"] > 0


def beat(desk, ago_s=0.0):
    pulse = pulse_file(desk.config.local_state)
    pulse.parent.mkdir(parents=True, exist_ok=True)  # as a worker does at its start
    Heartbeat(pulse, 1, now=lambda: time.monotonic() - ago_s).beat("idle")


def test_health_without_a_worker_of_its_own(met):
    _, room = met
    answer = room.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.databases
def test_health_with_a_worker_that_lives_hangs_or_is_none(desk, open_room, monkeypatch):
    import worker.web.app

    monkeypatch.setattr(worker.web.app, "Watcher", Idle)
    room = open_room(desk.config, watch=True)
    assert (room.get("/healthz").status_code, room.get("/healthz").json()["worker"]) == (
        503,
        "none",
    )
    beat(desk)
    assert (room.get("/healthz").status_code, room.get("/healthz").json()["worker"]) == (
        200,
        "idle",
    )
    beat(desk, ago_s=1000)
    assert (room.get("/healthz").status_code, room.get("/healthz").json()["worker"]) == (
        503,
        "hangs",
    )
    assert samples(room)["screen_worker_state", "hangs"] == 1


class Idle:
    """A worker that is not run."""

    def __init__(self, _config):
        pass

    def start(self):
        pass

    def stop(self):
        pass


def test_health_is_bad_when_the_database_is_gone(desk, room):
    """Open connections went on reading the file without a name."""
    assert room.get("/healthz").status_code == 200
    for path in desk.config.root.glob("screen.db*"):
        path.unlink()
    answer = room.get("/healthz")
    assert answer.status_code == 503
    assert str(desk.config.root) not in answer.text, "it needs no token: no paths"
    assert not (desk.config.root / "screen.db").exists()


# The description


def test_everything_that_is_no_page_is_described(met):
    from tests.web.test_access import addresses

    _, room = met
    said = room.get("/openapi.json").json()
    pages = {"/", "/results", "/login", "/api", "/openapi.json", "/upload", "/reviews"}
    for asked in addresses(room.app):
        if asked.path not in pages and not asked.path.startswith("/reports/"):
            assert said["paths"][asked.path][asked.method.lower()]["description"], asked
    assert said["openapi"].startswith("3.")
    assert said["info"]["version"]
    operations = [each for methods in said["paths"].values() for each in methods.values()]
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names)) >= 9
    assert list(references(said)), "shapes are named"
    for reference in references(said):
        where = said
        for part in reference.removeprefix("#/").split("/"):
            where = where[part]


def references(said):
    if isinstance(said, dict):
        if isinstance(said.get("$ref"), str):
            yield said["$ref"]
        said = said.values()
    if not isinstance(said, str | int | float | bool | None):
        for each in said:
            yield from references(each)


def test_the_page_of_the_api_shows_every_operation(met):
    _, room = met
    said, page = room.get("/openapi.json").json(), room.get("/api").text
    for path, methods in said["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page
