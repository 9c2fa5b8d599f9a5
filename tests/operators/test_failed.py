"""What operators do with failures: nothing is lost, whatever is cut off."""

import json
import stat
from datetime import timedelta

import pytest
from sqlalchemy import text

from worker.errors import CorruptFile, StaleFailure, TooLarge
from worker.failed import discard, film_of, retry, settle_interrupted
from worker.intake.found import Found
from worker.marks import MARK
from worker.site import hold_site
from worker.store.failures import failures, failures_called, resolve, standing_failures
from worker.store.mark import add_site_mark
from worker.store.outcomes import Failed, finish
from worker.store.work import record

pytestmark = pytest.mark.databases

NOTICE = "notice is-failed"


@pytest.fixture
def failing(desk):
    """A site with one failed film; its decoder would read it now."""
    desk.screener.errors[b"bad"] = [CorruptFile("broken")]
    desk.drop(film=b"bad")
    desk.work()
    desk.screener.errors.clear()
    return desk


def only(desk):
    with desk.database() as engine:
        (each,) = failures(engine, every=True)
    return each


def again(desk):
    with desk.database() as engine:
        return retry(desk.site, engine, only(desk), desk.now)


def test_a_retried_film_is_back_in_the_inbox_and_its_failure_does_not_stand(failing):
    assert again(failing) == failing.site.inbox / "film.jpg"
    assert failing.names("failed") == []
    assert failing.rows("SELECT resolution FROM failures") == [("retried",)]
    with failing.database() as engine:
        assert failures(engine) == []


def test_a_retried_film_is_screened_like_any_other_and_its_failure_stays_in_the_history(failing):
    again(failing)
    failing.work()
    assert failing.names("done") == ["film.jpg"]
    said = failing.rows("SELECT status, resolution FROM results ORDER BY file_id")
    assert said == [("failed", "retried"), ("screened", None)]
    assert failing.rows("SELECT count(*) FROM screenings") == [(1,)]


def test_the_worklist_shows_only_failures_that_stand(failing):
    assert NOTICE in failing.worklist()
    again(failing)
    failing.work()
    assert NOTICE not in failing.worklist()
    assert "run 2" in failing.worklist()


def test_a_film_that_fails_again_stands_again_under_a_number_of_its_own(failing):
    again(failing)
    failing.screener.errors[b"bad"] = [CorruptFile("broken still")]
    failing.work()
    assert failing.names("failed") == ["film.jpg", "film.jpg.json"]
    assert failing.rows("SELECT file_id, resolution FROM failures ORDER BY id") == [
        (1, "retried"),
        (2, None),
    ]
    with failing.database() as engine, pytest.raises(StaleFailure, match="another try already"):
        retry(failing.site, engine, failures(engine, every=True)[0], failing.now)


def test_a_retry_overwrites_no_film_in_the_inbox(failing):
    failing.drop(film=b"another patient")
    assert again(failing) == failing.site.inbox / "film-1.jpg"
    assert (failing.site.inbox / "film.jpg").read_bytes() == b"another patient"
    assert (failing.site.inbox / "film-1.jpg").read_bytes() == b"bad"


def test_a_film_goes_back_to_its_folder_if_that_is_there(desk):
    desk.screener.errors[b"bad"] = [CorruptFile("broken")]
    (desk.site.inbox / "ward").mkdir()
    (desk.site.inbox / "ward" / "film.jpg").write_bytes(b"bad")
    desk.work()
    assert again(desk) == desk.site.inbox / "ward" / "film.jpg"


def test_a_film_never_goes_back_under_a_name_that_the_worker_leaves_alone(failing, monkeypatch):
    monkeypatch.setattr("worker.intake.deliver.is_temporary", lambda name: name.endswith(".jpg"))
    assert again(failing) == failing.site.inbox / "film-1"


def test_a_film_never_follows_a_link_out_of_the_inbox(desk, tmp_path):
    desk.screener.errors[b"bad"] = [CorruptFile("broken")]
    (desk.site.inbox / "ward").mkdir()
    (desk.site.inbox / "ward" / "film.jpg").write_bytes(b"bad")
    desk.work()
    (desk.site.inbox / "ward").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (desk.site.inbox / "ward").symlink_to(tmp_path / "elsewhere")
    assert again(desk) == desk.site.inbox / "film.jpg"


STEPS = (
    ("worker.failed.resolve", 1),
    ("worker.intake.deliver.move_new", 1),
    ("worker.failed.sync_folder", 1),
    ("worker.failed.sync_folder", 2),
    ("worker.failed.resolve", 2),
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("step", "call"), STEPS)
def test_a_retry_that_is_killed_anywhere_leaves_the_film_failed_or_in_the_inbox(
    failing, killed_at, everywhere, step, call, after
):
    with killed_at(step, call=call, after=after):
        again(failing)
    assert everywhere(failing.site.inbox, failing.site.failed) == {b"bad": 1}
    with failing.database() as engine:
        settle_interrupted(failing.site, engine, failing.now)
        standing = failures(engine)
    there = (failing.site.failed / "film.jpg").exists()
    assert bool(standing) == there
    if there:
        again(failing)
    failing.work()
    assert failing.names("done") == ["film.jpg"]
    assert failing.names("failed") == []
    assert failing.rows("SELECT resolution FROM failures") == [("retried",)]
    assert failing.rows("SELECT count(*) FROM screenings") == [(1,)]


def test_a_retry_that_was_cut_off_is_not_mistaken_for_a_later_film_of_its_name(failing, killed_at):
    with killed_at("worker.failed.resolve", call=2):
        again(failing)
    failing.screener.errors[b"bad"] = [CorruptFile("broken still")]
    failing.work()
    assert failing.names("failed") == ["film.jpg", "film.jpg.json"]
    with failing.database() as engine:
        settle_interrupted(failing.site, engine, failing.now)
        assert [each.id for each in failures(engine)] == [2]
    assert failing.names("failed") == ["film.jpg", "film.jpg.json"]


def test_a_share_that_refuses_leaves_the_failure_standing(failing, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("worker.intake.deliver.move_new", refuse)
    with pytest.raises(PermissionError):
        again(failing)
    with failing.database() as engine:
        assert [each.stands for each in failures(engine)] == [True]
        settle_interrupted(failing.site, engine, failing.now)
        assert [each.resolution for each in failures(engine)] == [None]


@pytest.mark.parametrize("how", ["gone", "renamed", "link"])
def test_a_film_that_is_not_where_the_database_says_is_left_alone(failing, how):
    film = failing.site.failed / "film.jpg"
    if how == "renamed":
        film.rename(film.with_name("other.jpg"))
    else:
        film.unlink()
    if how == "link":
        film.symlink_to("/etc/hostname")
    with pytest.raises(StaleFailure, match=r"no longer in failed/|no regular file"):
        again(failing)
    with failing.database() as engine:
        assert [each.resolution for each in failures(engine)] == [None]
    assert failing.names("inbox") == []


def test_a_film_that_the_worker_still_puts_away_is_left_to_it(failing):
    each = only(failing)
    (failing.site.work / each.claim).mkdir()
    with failing.database() as engine, pytest.raises(StaleFailure, match="on its way"):
        film_of(failing.site, engine, each)


@pytest.fixture
def shared(failing):
    """A second site has the database too, and its own film that failed by the same name."""
    failing.screener.errors[b"other"] = [CorruptFile("broken")]
    failing.drop(other=b"other")
    failing.work()
    (failing.site.failed / "other.jpg").unlink()
    (failing.site.failed / "other.jpg.json").unlink()
    with failing.database() as engine:
        add_site_mark(engine, "other", failing.now + timedelta(days=365))
        with engine.begin() as connection:
            theirs = "UPDATE files SET site_mark = 'other', final_name = 'film.jpg' WHERE id = 2"
            connection.execute(text(theirs))
    return failing


def test_a_retry_that_another_site_began_is_left_to_it(shared):
    """A film of the same name here was once taken for the other's, its sidecar removed."""
    with shared.database() as engine:
        resolve(engine, 2, "retrying", shared.now)
        (shared.site.failed / "film.jpg").unlink()  # to be tried again by hand, say
        assert settle_interrupted(shared.site, engine, shared.now) == 0
    assert shared.names("failed") == ["film.jpg.json"]
    assert shared.rows("SELECT resolution FROM failures WHERE file_id = 2") == [("retrying",)]


@pytest.mark.parametrize("mark", ["other", None], ids=["another site's", "a share that is gone"])
def test_a_film_of_another_site_is_neither_retried_nor_deleted(shared, mark):
    number = 2
    if mark is None:
        number = 1
        (shared.site.work / MARK).unlink()
    with shared.database() as engine:
        (each,) = failures_called(engine, str(number))
        with pytest.raises(StaleFailure, match="another site"):
            retry(shared.site, engine, each, shared.now)
        with pytest.raises(StaleFailure, match="another site"):
            discard(shared.site, engine, each, shared.now, delete=True)
        assert all(each.resolution is None for each in failures(engine))
    assert shared.names("failed") == ["film.jpg", "film.jpg.json"]


def test_a_name_that_another_site_gave_too_is_still_ones_own(shared):
    with shared.database() as engine:
        (each,) = failures_called(engine, "1")
        resolve(engine, 1, "retrying", shared.now)
        assert settle_interrupted(shared.site, engine, shared.now) == 1
        assert [each.id for each in failures(engine)] == [1, 2]
        assert retry(shared.site, engine, each, shared.now) == shared.site.inbox / "film.jpg"


def test_a_discarded_failure_leaves_the_worklist_and_its_film_stays(failing, screen):
    ended = screen("failed", "discard", "1", cwd=failing.site.failed.parent)
    assert ended.returncode == 0, ended.stderr
    assert failing.names("failed") == ["film.jpg", "film.jpg.json"]
    assert NOTICE not in failing.worklist()
    assert failing.rows("SELECT resolution FROM results") == [("discarded",)]


def test_a_discarded_film_can_still_be_retried(failing):
    with failing.database() as engine:
        discard(failing.site, engine, only(failing), failing.now)
    again(failing)
    assert failing.names("inbox") == ["film.jpg"]


def test_a_film_is_deleted_only_when_that_is_asked_for(failing):
    with failing.database() as engine:
        discard(failing.site, engine, only(failing), failing.now, delete=True)
    assert failing.names("failed") == []
    with pytest.raises(StaleFailure, match="no longer in failed"):
        again(failing)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["worker.failed.resolve", "worker.failed._forget"])
def test_a_deletion_that_is_killed_anywhere_can_be_ended(failing, killed_at, step, after):
    with killed_at(step, after=after), failing.database() as engine:
        discard(failing.site, engine, only(failing), failing.now, delete=True)
    each = only(failing)
    assert each.resolution == "discarded" or failing.names("failed") == [
        "film.jpg",
        "film.jpg.json",
    ]
    with failing.database() as engine:
        try:
            discard(failing.site, engine, each, failing.now, delete=True)
        except StaleFailure:  # the film is gone: only its sidecar may be left
            discard(failing.site, engine, each, failing.now)
    assert "film.jpg" not in failing.names("failed")
    assert failing.rows("SELECT count(*), min(resolution) FROM failures") == [(1, "discarded")]


# Archives


def fail_in_archive(desk, error):
    desk.work()  # registers model and run
    found = Found("/archive", "/archive/film.jpg", desk.config.root / "film.jpg", 3, 7)
    with hold_site(desk.config) as engine:
        (item,) = record(engine, [found], 1, 1, desk.now)
        outcome = Failed(item, None, error, None)
        finish(engine, [outcome], run_id=1, model_id=1, now=desk.now)
    return found


def test_a_retry_in_an_archive_moves_nothing_and_the_next_backfill_tries_again(desk):
    found = fail_in_archive(desk, CorruptFile("broken"))
    with desk.database() as engine:
        assert record(engine, [found], 1, 1, desk.now) == []
        assert retry(desk.site, engine, only(desk), desk.now) is None
        assert standing_failures(engine, ["/archive"], 1) == 0
        assert [item.id for item in record(engine, [found], 1, 1, desk.now)] == [1]
    assert desk.rows("SELECT count(*) FROM failures") == [(0,)]


def test_a_discarded_failure_of_an_archive_is_not_tried_again_and_counts_no_more(desk):
    found = fail_in_archive(desk, TooLarge("large"))  # else a backfill would try it again
    with desk.database() as engine:
        assert standing_failures(engine, ["/archive"], 1) == 1
        discard(desk.site, engine, only(desk), desk.now)
        assert standing_failures(engine, ["/archive"], 1) == 0
        assert record(engine, [found], 1, 1, desk.now) == []


def test_a_film_of_an_archive_is_never_deleted(desk):
    fail_in_archive(desk, CorruptFile("broken"))
    with desk.database() as engine, pytest.raises(StaleFailure, match="archives are never"):
        discard(desk.site, engine, only(desk), desk.now, delete=True)


# Commands


def test_failures_are_found_by_number_and_by_name(failing):
    with failing.database() as engine:
        assert [e.id for e in failures_called(engine, "1")] == [1]
        assert [e.id for e in failures_called(engine, "film.jpg")] == [1]
        assert failures_called(engine, "2") == []


def test_a_list_as_json_holds_what_scripts_need(failing, screen):
    ended = screen("failed", "list", "--json", cwd=failing.config.root)
    (each,) = json.loads(ended.stdout)
    assert (each["id"], each["name"], each["reason"]) == (1, "film.jpg", "corrupt-file")
    assert each["resolution"] is None


def test_a_list_can_be_of_one_reason(failing, screen):
    root = failing.config.root
    assert "film.jpg" in screen("failed", "list", "--reason", "corrupt-file", cwd=root).stdout
    assert "no failures" in screen("failed", "list", "--reason", "too-large", cwd=root).stdout


def test_show_says_everything_of_one_failure(failing, screen):
    ended = screen("failed", "show", "film.jpg", cwd=failing.config.root)
    assert "corrupt-file" in ended.stdout
    assert "broken" in ended.stdout


def test_retry_works_beside_a_running_worker(failing, screen):
    with hold_site(failing.config):
        ended = screen("failed", "retry", "--all", cwd=failing.config.root)
    assert ended.returncode == 0, ended.stderr
    assert failing.names("inbox") == ["film.jpg"]


def test_a_retry_of_what_is_gone_says_what_to_do_and_exits_with_1(failing, screen):
    (failing.site.failed / "film.jpg").unlink()
    ended = screen("failed", "retry", "1", cwd=failing.config.root)
    assert ended.returncode == 1
    assert "screen failed discard 1" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", "1", "--all"),
        ("retry", "77"),
        ("show", "nothing.jpg"),
        ("discard",),
    ],
    ids=" ".join,
)
def test_a_wrong_use_exits_with_2(failing, screen, arguments):
    ended = screen("failed", *arguments, cwd=failing.config.root)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_a_deletion_asks_first(failing, screen):
    root = failing.config.root
    ended = screen("failed", "discard", "1", "--delete", cwd=root, stdin=-3)
    assert ended.returncode == 130
    assert failing.names("failed") == ["film.jpg", "film.jpg.json"]
    assert screen("failed", "discard", "1", "--delete", "--yes", cwd=root).returncode == 0
    assert failing.names("failed") == []


def test_a_film_keeps_mode_and_bytes_on_its_way_back(failing):
    before = (failing.site.failed / "film.jpg").stat()
    place = again(failing)
    after = place.stat()
    assert (before.st_ino, stat.S_IMODE(before.st_mode)) == (
        after.st_ino,
        stat.S_IMODE(after.st_mode),
    )
