"""How files are recorded, counted and brought to an end."""

import os
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, StatementError

from models.cards import REFERENCE_BINS, Reference
from worker.store.filters import Filter
from worker.store.outcomes import screened_contents
from worker.store.queries import results, stored_screening
from worker.store.runs import latest_card, runs
from worker.store.work import (
    add_strike,
    begin_attempt,
    begin_recovery,
    claimed_file,
    end_run,
    finished_file,
    record,
    register_model,
    waiting_files,
)

pytestmark = pytest.mark.databases


def column(engine, sql):
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(text(sql))]


def test_one_screening_per_content_and_model(shop, engine):
    """Another worker may have answered while this one screened: the first answer stands."""
    shop.finish(shop.screened(shop.item()))
    shop.finish(shop.screened(shop.item(), probability=0.8))
    assert column(engine, "SELECT probability FROM screenings") == [0.9]
    asked = "SELECT state, probability FROM files ORDER BY id"
    with engine.connect() as connection:
        assert connection.execute(text(asked)).all() == [("screened", 0.9), ("duplicate", 0.9)]


def test_another_model_screens_the_same_content_again(shop, engine, new_card, noon):
    shop.finish(shop.screened(shop.item()))
    shop.model_id = register_model(engine, new_card(), "2/other-preprocessing", noon)
    shop.finish(shop.screened(shop.item()))
    assert column(engine, "SELECT count(*) FROM screenings") == [2]
    assert column(engine, "SELECT count(*) FROM films") == [1]


def test_a_model_is_registered_once_per_preprocessing(engine, card, noon):
    first = register_model(engine, card, "1", noon)
    assert register_model(engine, card, "1", noon) == first
    assert register_model(engine, card, "2", noon) != first


def test_a_reference_that_came_later_is_kept_with_its_model(engine, card, run_id, noon):
    counts = (3, *[0] * (REFERENCE_BINS - 1))
    reference = Reference(films=3, of="three films", scores=counts, guard=counts)
    again = card.model_copy(update={"reference": reference, "intended_use": "something else"})
    register_model(engine, again, "1/square96", noon)
    assert latest_card(engine) == card.model_copy(update={"reference": reference})


def test_the_card_of_a_model_can_be_read_back(engine, card, run_id):
    assert latest_card(engine) == card


def test_a_batch_is_written_all_or_none(shop, engine):
    first = shop.screened(shop.item())
    impossible = shop.screened(shop.item(), sha256="bb" * 32, probability=1.5)
    with pytest.raises(IntegrityError, match="probability"):
        shop.finish(first, impossible)
    assert column(engine, "SELECT count(*) FROM screenings") == [0]
    assert column(engine, "SELECT DISTINCT state FROM files") == ["waiting"]


def test_a_duplicate_points_at_the_first_screening_even_when_it_stands_before_it(shop, engine):
    twin, first = shop.item(), shop.item()
    shop.finish(shop.duplicate(twin), shop.screened(first))
    assert column(engine, "SELECT DISTINCT screening_id FROM files") == [1]


def test_which_contents_are_known_depends_on_the_model(shop, engine, model_id):
    shop.finish(shop.screened(shop.item()))
    assert screened_contents(engine, {"aa" * 32, "bb" * 32}, model_id) == {"aa" * 32}
    assert screened_contents(engine, {"aa" * 32}, model_id + 1) == set()


def test_a_screening_comes_back_as_it_was_written(shop, engine):
    written = shop.screened(shop.item("first.dcm"))
    shop.finish(written, shop.duplicate(shop.item("twin.dcm")))
    stored = stored_screening(engine, 1)
    assert stored.record == written.record
    assert (stored.evidence == written.evidence).all()
    assert stored.tags == written.film.tags
    assert stored.notes == ("a note",)
    assert stored.files == ("first.dcm", "twin.dcm")


def test_an_archive_recorded_again_gives_only_what_is_left_to_do(shop, found):
    files = [found(f"{i}.dcm", source="/archive") for i in range(3)]
    first, *rest = shop.items(*files)
    shop.finish(shop.screened(first))
    assert shop.items(*files) == rest


def test_a_file_that_is_given_twice_is_one_file(shop, found):
    file = found("a.dcm", source="/archive")
    assert len(shop.items(file, file)) == 1


def test_one_path_in_two_archives_is_two_files(shop, found):
    """`/archive` and `/archive/2019` both hold `/archive/2019/a.dcm`."""
    inner = found("a.dcm", source="/archive/2019")
    outer = found("a.dcm", source="/archive", path=inner.path)
    assert len({item.id for item in shop.items(inner, outer)}) == 2


def test_a_file_that_changed_since_is_another_file(shop, found):
    (item,) = shop.items(found("a.dcm", source="/archive"))
    shop.finish(shop.screened(item))
    assert len(shop.items(found("a.dcm", source="/archive", mtime_ns=8))) == 1


@pytest.mark.databases("sqlite")
def test_very_many_files_are_recorded_at_once(engine, shop, found):
    """An inbox may hold more files than a statement may have variables (32,766 in SQLite)."""
    variables = sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER
    event.listen(engine, "connect", lambda each, _: each.setlimit(variables, 500))
    engine.dispose()  # the next connection has the limit
    assert len(shop.items(*(found(f"{i}.jpg") for i in range(1200)))) == 1200


def test_an_attempt_is_counted_and_shows_that_a_worker_died(shop, engine, run_id, model_id):
    item = shop.item()
    begin_attempt(engine, [item], run_id, model_id)
    assert waiting_files(engine, "inbox") == []
    assert begin_recovery(engine, crashed=False) == 1
    (again,) = waiting_files(engine, "inbox")
    assert (again.id, again.worker_deaths) == (item.id, 1)


def test_a_run_that_ends_in_order_blames_no_film_in_its_hands(shop, engine, run_id, model_id, noon):
    """Each stop while disk or database refused once counted as a death of the worker."""
    begin_attempt(engine, [shop.item()], run_id, model_id)
    end_run(engine, run_id, noon)
    assert begin_recovery(engine, crashed=False) == 0
    assert [item.worker_deaths for item in waiting_files(engine, "inbox")] == [0]


def test_finished_files_are_not_taken_up_again(shop, engine):
    shop.finish(shop.screened(shop.item()), shop.failed(shop.item()))
    assert begin_recovery(engine, crashed=False) == 0
    assert waiting_files(engine, "inbox") == []


def test_strikes_are_counted(shop, engine):
    item = shop.item()
    assert add_strike(engine, add_strike(engine, item)).strikes == 2


def test_a_claim_leads_to_its_file(shop, engine):
    item = shop.item("a.jpg")
    assert claimed_file(engine, "claim-of-a.jpg").id == item.id
    assert claimed_file(engine, "another") is None


def test_the_facts_of_a_failure_are_those_of_its_sidecar(shop, engine, noon):
    item = shop.item("a.jpg")
    assert finished_file(engine, item.id) is None
    shop.finish(shop.failed(item, sha256="cc" * 32))
    assert finished_file(engine, item.id).failure == {
        "file": "a.jpg",
        "sha256": "cc" * 32,
        "reason": "truncated-file",
        "message": "ends early",
        "failed_at": noon.isoformat(),
        "attempts": 0,
        "strikes": 0,
        "run": shop.run_id,
    }


def test_paths_that_are_no_text_come_back_byte_for_byte(shop, engine, found):
    path = Path(os.fsdecode(b"/site/work/claim/\xff\n.jpg"))
    shop.items(found("shown.jpg", path=path))
    (item,) = waiting_files(engine, "inbox")
    assert item.found.path == path


def test_a_run_that_never_ended_is_marked_when_the_next_begins(start_run, engine, noon):
    first = start_run()
    start_run(now=noon + timedelta(hours=1))
    (_, interrupted) = runs(engine)
    assert (interrupted.run, interrupted.note) == (first, "interrupted")
    assert interrupted.finished_at == noon + timedelta(hours=1)


def test_moments_are_kept_in_utc(shop, engine, run_id):
    in_tokyo = datetime(2026, 5, 3, 21, 0, tzinfo=timezone(timedelta(hours=9)))
    shop.finish(shop.screened(shop.item()), now=in_tokyo)
    (stored,) = column(engine, "SELECT CAST(finished_at AS TEXT) FROM files")
    assert stored.startswith("2026-05-03 12:00:00")
    (result,) = results(engine)
    assert result.finished_at == datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
    assert result.finished_at.tzinfo is UTC


def test_a_moment_without_zone_is_refused(engine, run_id):
    with pytest.raises(StatementError, match="without time zone"):
        end_run(engine, run_id, datetime(2026, 5, 3))


def test_recording_nothing_asks_the_database_nothing():
    assert record(None, [], 1, 1, datetime.now(UTC)) == []


def test_results_can_be_filtered_to_nothing(shop, engine):
    assert list(results(engine, Filter(run=99))) == []
