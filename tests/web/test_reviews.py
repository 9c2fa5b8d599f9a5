"""Reviews over HTTP: stored, shown on the static pages, and nothing half."""

import threading
import time

import pytest
from sqlalchemy import text

from tests.web.conftest import configure
from worker.config import load_config
from worker.store.database import open_database

pytestmark = pytest.mark.databases

NOTE = "<script>alert(1)</script> {{7*7}} \u202e'\";--\n\0 ende"


@pytest.fixture
def met(desk, open_room):
    """A site with two films, its room, and their results."""
    desk.drop(one=b"one", two=b"two", three=b"three")
    desk.work()
    room = open_room(desk.config)
    results = room.get("/api/results").json()["results"]
    return desk, room, {each["file"].rpartition("/")[2][:-4]: each for each in results}


def review(room, page, verdict="agree", **more):
    return room.post("/api/reviews", json={"page": page, "verdict": verdict, **more})


def test_a_review_says_what_the_reader_saw(met):
    _, room, results = met
    one = results["one"]
    other = {"PNEUMONIA": "NORMAL", "NORMAL": "PNEUMONIA"}[one["decision"]]
    for verdict, finding in (("agree", one["decision"]), ("disagree", other), ("unclear", None)):
        answer = review(room, one["page"], verdict)
        assert answer.status_code == 201
        assert answer.json() == {"page": one["page"], "verdict": verdict, "finding": finding}
    (said,) = room.get("/api/results?verdict=unclear").json()["results"]
    assert said["file"] == one["file"]
    assert len(room.get("/api/results?reviewed=false").json()["results"]) == 2


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"finding": "SCOLIOSIS"}, 422),
        ({"verdict": "maybe"}, 422),
        ({"page": "films/" + "0" * 24 + "-" + "0" * 8 + ".html"}, 404),
        ({"page": "../screen.db"}, 422),
        ({"note": "x" * 4001}, 422),
        ({"reviewer": "x" * 101}, 422),
        ({"verdict": "unclear", "finding": "NORMAL"}, 422),
    ],
)
def test_what_is_no_review_is_not_kept(met, sent, status):
    desk, room, results = met
    answer = room.post(
        "/api/reviews", json={"page": results["one"]["page"], "verdict": "agree"} | sent
    )
    assert answer.status_code == status
    assert desk.rows("SELECT count(*) FROM reviews") == [(0,)]


def test_a_finding_may_be_said_where_the_model_did_not_answer(met):
    desk, room, results = met
    with desk.database() as engine, engine.begin() as connection:
        connection.execute(text("UPDATE screenings SET decision = 'INDETERMINATE'"))
    page = results["one"]["page"]
    assert review(room, page, finding="NORMAL").json()["finding"] == "NORMAL"
    assert review(room, page).json()["finding"] is None
    assert review(room, page, "unclear", finding="NORMAL").status_code == 422


def test_a_form_leads_back_and_remembers_its_reader(met):
    _, room, results = met
    page = results["one"]["page"]
    answer = room.post(
        "/reviews", data={"page": page, "verdict": "disagree", "note": NOTE, "reviewer": "Dr. Ä"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"/reports/{page}#review")
    assert "HttpOnly" in answer.headers["set-cookie"]
    (said,) = room.get("/api/results?verdict=disagree").json()["results"]
    assert said["reviewer"] == "Dr. Ä"
    assert "<script>alert" in said["review_note"]
    assert said["review_note"].endswith("ende")
    assert "<script>alert" not in room.get(f"/reports/{page}").text


@pytest.mark.parametrize("cookie", ["zz", "ff", "", "c3a4" * 5000])
def test_a_reader_whose_cookie_is_junk_sees_the_page(met, cookie):
    _, room, results = met
    headers = {"Cookie": f"screen-reviewer={cookie}"}
    assert room.get(f"/reports/{results['one']['page']}", headers=headers).status_code == 200


def test_the_static_pages_show_it(met):
    desk, room, results = met
    page = desk.site.reports / results["one"]["page"]
    index = desk.site.reports / "index.html"
    before = page.stat().st_ino, index.stat().st_ino
    review(room, results["one"]["page"], note=NOTE)
    assert page.stat().st_ino != before[0], "the film's page was rendered again"
    end_s = time.monotonic() + 30
    while index.stat().st_ino == before[1] and time.monotonic() < end_s:
        time.sleep(0.05)
    assert index.stat().st_ino != before[1], "the worklist was written again"
    for path in (page, index):
        assert "<script>alert" not in path.read_text()
    assert "&lt;script&gt;alert" in page.read_text(), "the note stands on the film's page"


def test_a_long_worklist_is_written_too(met, monkeypatch):
    """Its pages are counted in the database, and it was written through a reader's connection."""
    import worker.report.site

    desk, room, results = met
    monkeypatch.setattr(worker.report.site, "WORKLIST_ROWS", 1)
    review(room, results["one"]["page"])
    end_s = time.monotonic() + 30
    due = "SELECT count(*) FROM result_lists WHERE written < changes"
    while desk.rows(due) != [(0,)] and time.monotonic() < end_s:
        time.sleep(0.05)
    assert desk.rows(due) == [(0,)]
    assert (desk.site.reports / "results").is_dir()


def test_an_end_without_reviews_writes_nothing(desk, open_room, monkeypatch):
    """At every end the whole worklist was written."""
    import worker.web.refresh
    from worker.web.refresh import Refresher

    written = []
    monkeypatch.setattr(worker.web.refresh, "write_worklist", lambda *_, **__: written.append(1))
    idle, asked = Refresher(desk.site, None), Refresher(desk.site, None)
    for each in (idle, asked):
        each.start()
    idle.stop()
    assert written == []
    asked.ask()
    asked.stop()
    assert written == [1]


def test_while_the_database_is_held_a_review_waits(met):
    desk, room, results = met
    with desk.database() as engine:
        connection = engine.connect()
        held = connection.begin()
        release = threading.Timer(0.5, held.commit)
        connection.execute(text("UPDATE runs SET note = note"))
        release.start()
        answer = review(room, results["one"]["page"])
        release.join()
        connection.close()
    assert answer.status_code == 201


@pytest.mark.databases("sqlite")  # on a server nobody holds it as a whole
def test_a_database_that_stays_held_keeps_nothing_and_says_so(desk, open_room):
    desk.drop(one=b"one")
    desk.work()
    room = open_room(configure(desk.config, database={"busy_timeout_s": 0.2}))
    (one,) = room.get("/api/results").json()["results"]
    with desk.database() as engine, engine.begin():
        answer = review(room, one["page"])
        assert answer.status_code == 503
        assert "locked" in answer.json()["message"]
        form = room.post("/reviews", data={"page": one["page"], "verdict": "agree"})
        assert form.status_code == 503
    assert desk.rows("SELECT count(*) FROM reviews") == [(0,)]
    assert review(room, one["page"]).status_code == 201


def test_a_site_can_be_asked_by_two_servers(desk, open_room):
    engine = open_database(load_config(desk.config.root / "config.toml").database)
    engine.dispose()
    first, second = open_room(desk.config), open_room(desk.config)
    assert {first.get("/").status_code, second.get("/").status_code} == {200}


@pytest.mark.databases("sqlite")  # a file
def test_a_review_is_not_kept_in_a_database_that_was_replaced(met):
    """After `screen db restore` it went into the file that nobody can find any more."""
    desk, room, results = met
    database = desk.config.database.file
    (desk.config.root / "copy").write_bytes(database.read_bytes())
    (desk.config.root / "copy").replace(database)
    answer = review(room, results["one"]["page"])
    assert (answer.status_code, "start 'screen serve' again" in answer.text) == (503, True)
    assert room.get("/healthz").status_code == 503
