"""What the reading room shows of a site at one look."""

from types import SimpleNamespace

import pytest
from sqlalchemy import text

from tests.standin import StandInScreener
from worker.store.database import open_database
from worker.web import look
from worker.web.look import Look

_WAITING = """INSERT INTO files (run_id, model_id, source, file, path, size, mtime_ns, claim, state,
    attempts, strikes, worker_deaths, worker_crashes, recorded_at)
    SELECT run_id, model_id, source, :name, :name, 1, 1, :name, :state, 0, 0, 0, 0, recorded_at
    FROM files LIMIT 1"""


class Unsure(StandInScreener):
    """Says INDETERMINATE of films that are called so."""

    def _record(self, file, examined):
        record = super()._record(file, examined)
        decision = "INDETERMINATE" if "unsure" in file else "PNEUMONIA"
        return type(record)(**{**vars(record), "decision": decision})


@pytest.fixture
def seen(desk):
    """Look at a site that has results; `now` is moved by hand."""
    desk.screener = Unsure(desk.screener.card)
    desk.drop(**{f"film-{n}": b"f%d" % n for n in range(10)}, unsure=b"u")
    desk.work_all()
    room = SimpleNamespace(config=desk.config, reader=open_database(desk.config.database))
    clock = SimpleNamespace(now=0.0)
    yield SimpleNamespace(look=Look(room, lambda: clock.now), clock=clock, reader=room.reader)
    room.reader.dispose()


def wait(seen, count, state="waiting"):
    with seen.reader.begin() as connection:
        for number in range(count):
            connection.execute(text(_WAITING), {"name": f"{state}-{number}", "state": state})


def test_results_are_shown_however_many_newer_files_wait(seen):
    """With eight newer files the page said that no film had come to an end yet."""
    wait(seen, 20)
    page = seen.look()
    assert "No film has come to an end yet" not in page
    newest = page.partition("Newest results")[2].partition("<h2")[0]
    assert newest.count("<tr") == 1 + 8


def test_what_is_in_hand_comes_before_what_waits_and_the_others_are_counted(seen, monkeypatch):
    wait(seen, 20)
    wait(seen, 1, "attempted")
    page = seen.look()
    listed = page.partition("In hand")[2].partition("</section>")[0]
    assert listed.count("<li>") == 8
    assert listed.index("attempted-0") < listed.index("waiting-0")
    assert "13 more wait." in listed
    monkeypatch.setattr(look, "_IN_HAND_COUNTED", 15)
    assert "More than 7 more wait." in seen.look()


def test_undecided_films_come_after_the_most_suspicious(seen):
    """They never came up."""
    part = seen.look().partition('id="to-review"')[2].partition("</section>")[0]
    assert part.count("<tr") == 1 + 8 + 1
    assert part.rindex("film-") < part.index("unsure")


def test_the_page_has_the_same_parts_whatever_goes_on(seen):
    """The page's script replaces the parts that changed, one by one."""
    parts = seen.look().count("\n</div>")
    wait(seen, 1)
    assert seen.look().count("\n</div>") == parts == 5


@pytest.mark.parametrize(("took_s", "pause_s"), [(0.1, 5), (2.0, 20)])
def test_slow_counting_is_done_less_often(seen, monkeypatch, took_s, pause_s):
    counted = []

    def count(inbox):
        counted.append(inbox)
        seen.clock.now += took_s
        return look.Survey(0, {}, 0)

    monkeypatch.setattr(look, "survey", count)
    seen.look()
    seen.clock.now += pause_s - 0.5
    seen.look()
    assert len(counted) == 1
    seen.clock.now += 1
    seen.look()
    assert len(counted) == 2
