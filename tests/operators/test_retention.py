"""Retention removes what is old and known, and nothing else, whatever the clock or a kill does."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from worker.config import Retention, load_config
from worker.errors import CorruptFile
from worker.report.site import broken_pages
from worker.retention import Cutoff, Cutoffs, Kept, choose, cutoffs, plan, prune
from worker.store.database import integrity_problems
from worker.store.removals import Day, StoredFilm, StoredReport, note_day

pytestmark = pytest.mark.databases

DAY = timedelta(days=1)
GB = 10**9


# Policy


def film(number, finished_at, size=10, device=1):
    return Kept(StoredFilm(number, f"{number}.jpg", "", size, 0, None, finished_at), size, device)


def report(number, finished_at, size=10, device=1):
    return Kept(StoredReport(number, ("p", "q"), finished_at, number), size, device)


def cutoff(before, last_file=99):
    return Cutoff(before, last_file)


def lived(*days):
    """Days of May on which the site lived; each found as many files as its number says."""
    return [Day(date(2026, 5, day), day) for day in days]


def numbers(chosen):
    return [each.what.id for each in chosen]


def test_age_is_counted_in_days_that_the_site_lived():
    days = lived(1, 2, 3, 20)  # off from the 4th to the 19th
    limits = cutoffs(Retention(done_days=2, reports_days=3), days)
    assert limits.films == Cutoff(datetime(2026, 5, 2, tzinfo=UTC), 2)
    assert limits.reports == Cutoff(datetime(2026, 5, 1, tzinfo=UTC), 1)
    assert limits.for_space is None


def test_a_film_is_kept_for_at_least_as_many_whole_days():
    late = film(1, datetime(2026, 5, 1, 23, 59, tzinfo=UTC)).what
    one = Retention(done_days=1)
    assert not cutoffs(one, lived(1, 2)).films.passes(late)
    assert cutoffs(one, lived(1, 2, 3)).films.passes(late)


@pytest.mark.parametrize("days", [(), (1,)])
def test_a_site_that_lived_too_few_days_has_nothing_old(days):
    limits = Retention(done_days=1, reports_days=1, min_free_gb=1, keep_days=1)
    assert cutoffs(limits, lived(*days)) == Cutoffs(None, None, None)


def test_what_is_old_goes_and_films_and_reports_have_limits_of_their_own(noon):
    limits = Cutoffs(films=cutoff(noon), reports=cutoff(noon - 5 * DAY), for_space=None)
    films = [film(1, noon - DAY), film(2, noon + DAY)]
    reports = [report(3, noon - DAY), report(4, noon - 6 * DAY)]
    assert numbers(choose(films + reports, limits, {})) == [1, 4]


def test_a_film_that_came_after_a_day_is_not_older_than_it_whatever_its_time_says(noon):
    limits = Cutoffs(films=cutoff(noon, last_file=1), reports=None, for_space=None)
    kept = [film(1, noon - DAY), film(2, noon - 10_000 * DAY)]
    assert numbers(choose(kept, limits, {})) == [1]


def test_for_space_the_oldest_go_until_there_is_enough(noon):
    limits = Cutoffs(None, None, for_space=cutoff(noon))
    kept = [film(1, noon - DAY), report(2, noon - 3 * DAY), film(3, noon - 2 * DAY)]
    assert numbers(choose(kept, limits, {1: 15})) == [2, 3]


def test_for_space_nothing_young_goes_however_little_is_free(noon):
    limits = Cutoffs(None, None, for_space=cutoff(noon - DAY))
    assert numbers(choose([film(1, noon), film(2, noon - 2 * DAY)], limits, {1: 10**12})) == [2]


def test_for_space_a_device_that_has_enough_loses_nothing(noon):
    limits = Cutoffs(None, None, for_space=cutoff(noon))
    kept = [film(1, noon - DAY, device=1), report(2, noon - DAY, device=2)]
    assert numbers(choose(kept, limits, {1: -5, 2: 5})) == [2]


def test_what_goes_by_age_counts_towards_the_space(noon):
    limits = Cutoffs(films=cutoff(noon - 2 * DAY), reports=None, for_space=cutoff(noon))
    kept = [film(1, noon - 3 * DAY, size=20), film(2, noon - DAY)]
    assert numbers(choose(kept, limits, {1: 15})) == [1]


# A site


def keep(desk, text):
    """Give a site limits."""
    file = desk.config.root / "config.toml"
    file.write_text(file.read_text() + f"[retention]\n{text}\n")
    desk.config = load_config(file)


@pytest.fixture
def aged(desk):
    """A site with two films and a failure that lived ten days since."""
    desk.screener.errors[b"bad"] = [CorruptFile("broken")]
    desk.drop(a=b"1", b=b"2", failed=b"bad")
    desk.work()
    with desk.database() as engine:
        for days in range(11):
            note_day(engine, (desk.now + days * DAY).date())
    desk.now += 10 * DAY
    return desk


def look(desk, now=None, **options):
    with desk.database() as engine:
        return prune(desk.config, engine, now or desk.now, **options)


def test_without_limits_everything_is_kept(aged, tree):
    before = tree(aged.config.root / "done"), tree(aged.site.reports)
    assert not look(aged).anything
    assert (tree(aged.config.root / "done"), tree(aged.site.reports)) == before


def test_old_films_leave_done_and_their_results_stay(aged):
    keep(aged, "done_days = 5")
    done = look(aged)
    assert (done.films, done.reports, done.freed_bytes) == (2, 0, 2)
    assert aged.names("done") == []
    assert aged.rows("SELECT count(*), count(page) FROM results WHERE status = 'screened'") == [
        (2, 2)
    ]


def test_old_reports_go_and_the_worklist_says_so_without_a_dead_link(aged):
    keep(aged, "reports_days = 5")
    assert look(aged).reports == 2
    assert list((aged.site.reports / "films").iterdir()) == []
    assert list((aged.site.reports / "pictures").iterdir()) == []
    aged.work()
    page = aged.worklist()
    assert page.count("Report removed by retention on 2026-05-13") == 2
    assert 'href="films/' not in page
    assert aged.rows("SELECT count(probability), count(page) FROM results") == [(2, 0)]
    assert aged.rows("SELECT count(page) FROM latest_results") == [(0,)]


def test_a_removed_report_is_not_broken_and_does_not_come_back(aged):
    keep(aged, "reports_days = 5")
    look(aged)
    with aged.database() as engine:
        assert broken_pages(aged.site, engine) == []
    aged.work()
    assert list((aged.site.reports / "films").iterdir()) == []


def test_a_film_that_is_fed_in_again_gets_a_new_report_and_keeps_its_one_answer(aged):
    """It was a duplicate of a film whose report nobody could open any more."""
    keep(aged, "reports_days = 5")
    look(aged)
    aged.drop(again=b"1")
    aged.work()
    assert len(list((aged.site.reports / "films").iterdir())) == 1
    said = aged.rows(
        "SELECT file, status, page IS NULL FROM results WHERE status != 'failed' ORDER BY file_id"
    )
    assert said == [
        ("a.jpg", "screened", 0),
        ("b.jpg", "screened", 1),
        ("again.jpg", "duplicate", 0),
    ]
    assert aged.rows("SELECT count(*) FROM screenings") == [(2,)]


def test_a_report_lives_as_long_as_its_film_keeps_coming(aged):
    keep(aged, "reports_days = 5")
    aged.drop(again=b"1")
    aged.work()
    assert look(aged).reports == 1
    said = aged.rows(
        "SELECT file, page IS NULL FROM results WHERE status != 'failed' ORDER BY file_id"
    )
    assert said == [("a.jpg", 0), ("b.jpg", 1), ("again.jpg", 0)]


def test_failed_films_are_never_removed(aged):
    keep(aged, "done_days = 1\nreports_days = 1\nmin_free_gb = 1e9\nkeep_days = 1")
    look(aged)
    assert aged.names("failed") == ["failed.jpg", "failed.jpg.json"]


def test_what_the_database_does_not_know_stays(aged, tmp_path):
    keep(aged, "done_days = 1")
    (aged.site.done / "stranger.jpg").write_bytes(b"who knows")
    (aged.site.done / "a.jpg").write_bytes(b"another film of this name")
    (aged.site.done / "b.jpg").unlink()
    (tmp_path / "elsewhere.jpg").write_bytes(b"2")
    (aged.site.done / "b.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    assert look(aged).films == 0
    assert aged.names("done") == ["a.jpg", "b.jpg", "stranger.jpg"]
    assert (tmp_path / "elsewhere.jpg").exists()


def test_a_film_that_was_only_touched_is_still_that_film(aged):
    keep(aged, "done_days = 1")
    (aged.site.done / "a.jpg").touch()
    assert look(aged).films == 2


def test_the_film_of_a_later_file_that_took_the_name_stays(aged):
    keep(aged, "done_days = 5")
    (aged.site.done / "a.jpg").unlink()  # by hand: the name was free again
    aged.drop(a=b"new")
    aged.work()
    look(aged)
    assert aged.names("done") == ["a.jpg"]
    assert (aged.site.done / "a.jpg").read_bytes() == b"new"


def test_a_share_that_is_gone_ages_nothing(aged):
    keep(aged, "done_days = 1\nreports_days = 1")
    kept = aged.site.done.rename(aged.site.done.with_name("kept"))
    aged.site.done.mkdir()  # the mount point beneath
    look(aged)
    assert aged.rows("SELECT count(film_removed_at) FROM files") == [(0,)]
    aged.site.done.rmdir()
    kept.rename(aged.site.done)
    assert look(aged).films == 2


def test_for_want_of_space_the_oldest_go_first(aged):
    keep(aged, "min_free_gb = 1\nkeep_days = 3")
    assert not look(aged, free=lambda _: 2 * GB).anything
    assert look(aged, free=lambda _: GB - 1).films == 1
    assert aged.names("done") == ["b.jpg"]
    assert look(aged, free=lambda _: 0).anything
    assert aged.names("done") == []


def test_one_look_removes_only_so_many(aged):
    keep(aged, "done_days = 1")
    assert look(aged, at_most=1).films == 1
    assert look(aged, at_most=1).films == 1
    assert not look(aged).anything


# Clocks


@pytest.mark.parametrize("jump", [365 * DAY, 10_000 * DAY, -10_000 * DAY])
def test_a_clock_that_jumps_removes_nothing(desk, jump):
    keep(desk, "done_days = 30\nreports_days = 30\nmin_free_gb = 1e9\nkeep_days = 7")
    desk.drop(a=b"1")
    desk.work()
    for now in (desk.now, desk.now + jump, desk.now + jump, desk.now + DAY):
        assert not look(desk, now).anything
    assert desk.names("done") == ["a.jpg"]


def test_films_of_a_day_on_which_the_clock_was_wrong_are_not_old_when_it_is_right(aged):
    """A machine without a battery starts in 1970, and its films looked fifty years old."""
    keep(aged, "done_days = 5")
    right, aged.now = aged.now, datetime(1970, 1, 1, tzinfo=UTC)
    aged.drop(new=b"new")
    aged.work()
    assert look(aged, right).films == 2
    assert aged.names("done") == ["new.jpg"]


def test_a_worker_that_was_off_finds_its_films_as_old_as_it_left_them(desk):
    keep(desk, "done_days = 30")
    desk.drop(a=b"1")
    desk.work()
    look(desk)
    assert not look(desk, desk.now + 300 * DAY).anything


# Kills

STEPS = (
    ("worker.retention.note_day", 1),
    ("worker.retention.begin_removal", 1),
    ("worker.retention._status", 8),
    ("worker.retention._status", 9),
    ("worker.retention.sync_folder", 1),
    ("worker.retention.end_removal", 1),
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("step", "call"), STEPS)
def test_a_look_that_is_killed_anywhere_is_ended_by_the_next(aged, killed_at, step, call, after):
    keep(aged, "done_days = 1\nreports_days = 1")
    with killed_at(step, call=call, after=after):
        look(aged)
    aged.work()  # a start in between: it renders nothing again that was to go
    page = aged.worklist()
    for name in aged.rows("SELECT page FROM results WHERE page IS NOT NULL"):
        assert name[0] in page
        assert (aged.site.reports / name[0]).is_file()
    look(aged)
    assert aged.names("done") == []
    for folder in ("films", "pictures"):
        assert list((aged.site.reports / folder).iterdir()) == []
    assert aged.rows("SELECT count(film_removed_at) FROM files") == [(2,)]
    assert aged.rows("SELECT count(*), count(report_removed_at) FROM screenings") == [(2, 2)]
    assert aged.rows("SELECT count(*) FROM removals") == [(0,)]
    with aged.database() as engine:
        assert integrity_problems(engine) == []


def test_a_name_that_was_given_again_since_a_kill_is_spared(aged, killed_at):
    keep(aged, "done_days = 1")
    with killed_at("worker.retention.end_removal"):
        look(aged)
    aged.drop(a=b"new", again=b"1")
    aged.work()
    look(aged)
    assert aged.names("done") == ["a.jpg", "again.jpg"]


# Commands


def test_a_dry_run_says_how_much_and_changes_nothing(aged, screen, tree):
    keep(aged, "done_days = 1")
    before = tree(aged.site.done)
    ended = screen("prune", "--dry-run", cwd=aged.config.root)
    assert ended.stdout.startswith("would remove 2 films and 0 reports")
    assert tree(aged.site.done) == before
    with aged.database() as engine:
        assert len(list(plan(aged.config, engine, aged.now))) == 2


def test_prune_removes_and_status_says_so(aged, screen):
    keep(aged, "done_days = 1\nreports_days = 1\n[log]\nformat = 'json'")
    ended = screen("prune", cwd=aged.config.root)
    assert ended.stdout.startswith("removed 2 films and 2 reports")
    (event,) = map(json.loads, ended.stderr.splitlines())
    assert (event["level"], event["films"], event["reports"]) == ("INFO", 2, 2)
    assert "Report removed by retention" in aged.worklist()
    said = screen("status", cwd=aged.config.root).stdout
    assert "2 films and 2 reports by retention" in said


def test_prune_says_when_there_are_no_limits(desk, screen):
    ended = screen("prune", cwd=desk.config.root)
    assert "kept for ever" in ended.stderr
