"""A site of very many results: a worklist of bounded size, all results on pages of their own."""

import re
import threading
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, text

from bench.synthetic import fill
from worker.chores import Chores
from worker.marks import require_this_site
from worker.report import results, site
from worker.report.site import broken_pages, render_again, settle_pages, write_worklist
from worker.store.backup import back_up, restorable
from worker.store.failures import resolve
from worker.store.lists import lists, mark_all_due
from worker.store.mark import keep_pages_safe, pages_safe
from worker.store.removals import StoredReport, begin_removal, note_day
from worker.store.worklist import worklist_counts

pytestmark = pytest.mark.databases

NOW = datetime(2026, 9, 1, tzinfo=UTC)
ROWS = 300


@pytest.fixture
def big(quick_site, monkeypatch):
    """A site with 2,500 files, of which its worklist holds 300."""
    from worker.site import hold_site

    monkeypatch.setattr(site, "WORKLIST_ROWS", ROWS)
    with hold_site(quick_site) as engine:
        fill(engine, 2500)
        write_worklist(quick_site.site, engine, NOW)
        yield quick_site, engine


def written(config):
    """Results pages and when they were written last."""
    pages = (config.site.reports / "results").glob("0*.html")
    return {path.name: path.stat().st_ino for path in pages}


def again(big):
    """Write the worklist; the names of the results pages that changed."""
    config, engine = big
    before = written(config)
    write_worklist(config.site, engine, NOW)
    after = written(config)
    return {name for name in after if after[name] != before.get(name)}


def asked(engine, sql):
    with engine.connect() as connection:
        return connection.execute(text(sql)).all()


def test_every_group_has_its_share_of_a_long_worklist_and_all_are_counted(big):
    config, engine = big
    pages = [path.read_text() for path in config.site.reports.glob("*.html")]
    rows = [slug for page in pages for slug in re.findall(r'<tr data-group="(\w+)">', page)]
    shares = {slug: rows.count(slug) for slug in rows}
    films = worklist_counts(engine).films
    fewest = min(films, key=films.get)
    assert sum(shares.values()) == ROWS
    assert shares[fewest] == films[fewest]  # all failures
    assert min(shares.values()) == shares[fewest] >= ROWS / 8
    [index] = [page for page in pages if "<title>Worklist ·" in page]
    assert [int(n.replace(",", "")) for n in re.findall(r'tile-count">([\d,]+)<', index)] == [
        films[slug] for slug in ("positive", "indeterminate", "refused", "failed", "negative")
    ]


def test_a_long_worklist_lists_the_highest_scores_and_says_what_it_leaves_out(big):
    config, engine = big
    index = (config.site.reports / "index.html").read_text()
    count = index.count('<tr data-group="positive">')
    highest = asked(
        engine,
        "SELECT file FROM results WHERE decision = 'PNEUMONIA' AND status = 'screened' "
        f"ORDER BY probability DESC LIMIT {count}",
    )
    listed = re.findall(r'"positive">.*?<bdi>([^<]+)</bdi></a>', index, re.DOTALL)
    assert listed == [row.file.rpartition("/")[2] for row in highest]
    left_out = worklist_counts(engine).films["positive"] - count
    assert f'{left_out} more films stand in <a href="results/index.html">' in index


def test_every_result_stands_on_exactly_one_page_of_results(big):
    config, engine = big
    pages = sorted((config.site.reports / "results").glob("0*.html"))
    shown = [n for p in pages for n in re.findall(r"<bdi>(film-\d+\.dcm)</bdi>", p.read_text())]
    files = asked(engine, "SELECT file FROM results ORDER BY file_id")
    assert shown == [row.file.rpartition("/")[2] for row in files]
    index = (config.site.reports / "results" / "index.html").read_text()
    assert re.findall(r'href="(\d+\.html)"', index) == [path.name for path in pages][::-1]


def test_only_the_pages_whose_rows_changed_are_written_again(big):
    _, engine = big
    assert again(big) == set()
    fill(engine, 100)
    [failed, *_] = asked(engine, "SELECT file_id FROM failures WHERE file_id BETWEEN 1000 AND 1999")
    resolve(engine, failed.file_id, "discarded", NOW)
    assert again(big) == {"000001.html", "000002.html"}
    [report] = asked(engine, "SELECT * FROM screenings WHERE id = 3")
    note_day(engine, NOW.date())
    gone = StoredReport(3, (report.page, report.picture), NOW, 3)
    begin_removal(engine, films=[], reports=[gone], freed_bytes=0, now=NOW)
    assert again(big) == {"000000.html"}


def test_a_page_of_results_that_is_missing_is_written_again(big):
    config, _ = big
    (config.site.reports / "results" / "000001.html").unlink()
    assert again(big) == {"000001.html"}


def test_a_page_whose_writing_was_cut_off_is_still_due(big, monkeypatch):
    config, engine = big
    resolve(engine, asked(engine, "SELECT file_id FROM failures")[0].file_id, "discarded", NOW)
    with monkeypatch.context() as patch:
        patch.setattr(results, "keep_written", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_worklist(config.site, engine, NOW)
    assert len(again(big)) == 1


def test_what_changes_while_a_page_is_written_is_not_lost(big, monkeypatch):
    _, engine = big
    one, other = asked(engine, "SELECT file_id FROM failures ORDER BY file_id LIMIT 2")
    resolve(engine, one.file_id, "discarded", NOW)
    read = results.results_in

    def meanwhile(*given):
        monkeypatch.setattr(results, "results_in", read)
        rows = read(*given)
        resolve(engine, other.file_id, "discarded", NOW)
        return rows

    monkeypatch.setattr(results, "results_in", meanwhile)
    assert again(big) == {"000000.html"}
    assert again(big) == {"000000.html"}
    assert again(big) == set()


def test_a_write_asks_the_same_however_many_results_there_are(big):
    config, engine = big
    counts = []
    for more in (0, 3000):
        fill(engine, more)
        write_worklist(config.site, engine, NOW)
        sent = []
        event.listen(engine, "before_cursor_execute", lambda *given, to=sent: to.append(given[2]))
        write_worklist(config.site, engine, NOW)
        counts.append(len(sent))
    assert counts[0] == counts[1]


def test_a_few_pages_of_many_are_written_at_once_when_films_wait(big):
    config, engine = big
    (config.site.reports / "results" / "000000.html").unlink()
    with engine.begin() as connection:
        connection.execute(text("UPDATE result_lists SET changes = changes + 1"))
    before = written(config)
    write_worklist(config.site, engine, NOW, at_most=1)
    after = written(config)
    assert [name for name in after if after[name] != before.get(name)] == ["000002.html"]


def test_a_site_that_became_small_has_one_list_again(big, monkeypatch):
    config, engine = big
    monkeypatch.setattr(site, "WORKLIST_ROWS", 10_000)
    write_worklist(config.site, engine, NOW)
    assert written(config) == {}
    assert "results/index.html" not in (config.site.reports / "index.html").read_text()


@pytest.mark.databases("sqlite")
def test_a_restored_database_finds_every_list_due(big, tmp_path):
    config, engine = big
    assert not any(each.due for each in lists(engine))
    back_up(engine, tmp_path / "copy.db")
    with restorable(tmp_path / "copy.db", config.database) as copy:
        from worker.store.database import open_database

        settings = config.database.model_copy(update={"url": f"sqlite:///{copy}"})
        other = open_database(settings)
        assert all(each.due for each in lists(other))
        other.dispose()


def cut_short(desk, page):
    path = desk.site.reports / page
    path.write_bytes(path.read_bytes()[:-100])


def test_pages_cut_short_since_the_last_sync_are_found_and_missing_ones_always(desk):
    desk.drop(a=b"a", b=b"b")
    desk.work()
    [(one,), (two,)] = desk.rows("SELECT page FROM screenings ORDER BY id")
    with desk.database() as engine:
        keep_pages_safe(engine, 0)  # as if the worker had been killed before its end
        cut_short(desk, one)
        assert broken_pages(desk.site, engine) == [1]
        assert render_again(desk.site, engine, [1]) == []
        settle_pages(desk.site, engine)
        assert pages_safe(engine) == 2
        (desk.site.reports / two).unlink()
        assert broken_pages(desk.site, engine) == [2]


def test_a_start_reads_no_page_that_was_synced_before(desk, monkeypatch):
    desk.drop(a=b"a", b=b"b")
    desk.work()
    read = []
    whole = site._is_whole
    monkeypatch.setattr(site, "_is_whole", lambda page: read.append(page) or whole(page))
    desk.work()
    assert read == []
    with desk.database() as engine:
        keep_pages_safe(engine, 0)
    desk.work()
    assert len(read) == 2


def test_a_page_that_a_removed_report_gets_anew_is_not_safe_yet(desk, monkeypatch):
    desk.drop(a=b"a")
    desk.work()
    with desk.database() as engine:
        settle_pages(desk.site, engine)
        with engine.begin() as connection:
            connection.execute(text("UPDATE screenings SET report_removed_at = screened_at"))
    marked = []
    monkeypatch.setattr("worker.chores.settle_pages", lambda *_: marked.append(1))
    desk.drop(again=b"a")
    desk.work()
    assert marked  # at the end: not before
    [(page,)] = desk.rows("SELECT page FROM screenings")
    cut_short(desk, page)
    with desk.database() as engine:
        assert broken_pages(desk.site, engine) == [1]


def test_pages_are_not_called_safe_before_those_of_a_dead_worker_were_mended(desk):
    """A full disk at the start pauses; the page that a power loss cut short was then forgotten."""
    desk.drop(a=b"a")
    desk.work()
    [(page,)] = desk.rows("SELECT page FROM screenings")
    cut_short(desk, page)
    with desk.database() as engine:
        keep_pages_safe(engine, 0)
        checked = require_this_site(desk.site, engine)
        chores = Chores(engine, desk.config, checked, lambda: None, time.monotonic, lambda: NOW)
        chores.prune()  # as in a pause
        chores.settle_pages()  # as at a stop
        assert pages_safe(engine) == 0
        assert broken_pages(desk.site, engine) == [1]
        render_again(desk.site, engine, [1])
        chores.pages_mended()
        chores.settle_pages()
        assert pages_safe(engine) == 1


def test_syncing_says_that_it_is_alive(desk, monkeypatch):
    """Another program's gigabytes may be in front of our pages."""
    desk.drop(a=b"a")
    desk.work()
    monkeypatch.setattr(site, "_ALIVE_EVERY_S", 0.01)
    beats = threading.Semaphore(0)
    monkeypatch.setattr(site, "sync_filesystem", lambda _: beats.acquire(timeout=30))
    with desk.database() as engine:
        keep_pages_safe(engine, 0)
        settle_pages(desk.site, engine, beats.release)
        assert pages_safe(engine) == 1


def test_a_site_that_became_short_has_nothing_due(big, monkeypatch):
    """Else the daemon would write its worklist again and again."""
    config, engine = big
    monkeypatch.setattr(site, "WORKLIST_ROWS", 5000)
    write_worklist(config.site, engine, NOW)
    mark_all_due(engine)
    assert not site.pages_due(config.site, engine)
