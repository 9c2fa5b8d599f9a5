"""Sites of their own with one database: each worker has its own inbox, all have the reports."""

import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from tests.cluster.conftest import eventually, films_of
from tests.cluster.field import LEASE_S, SETTINGS
from tests.cluster.victim import live
from tests.torture.sweep import fork
from worker.config import load_config
from worker.errors import ShareGone
from worker.marks import MARK, join_site
from worker.site import init_site, remembered_mark
from worker.store.mark import add_site_mark, keep_site_mark, site_mark, site_marks


@pytest.fixture
def new_site(tmp_path, server_url):
    """Make a site with folders of its own, but for reports/."""
    reports = tmp_path / "first" / "reports"

    def make(name):
        config, _ = init_site(tmp_path / name)
        settings = SETTINGS.format(lease_s=LEASE_S, url=server_url)
        shared = f'[site]\nreports = "{reports}"\n'
        (config.root / "config.toml").write_text(shared + settings)
        config = load_config(config.root / "config.toml")
        config.local_state.parent.mkdir()
        return config

    return make


def join(config, server):
    return join_site(config.site, server, remembered_mark(config), datetime.now(UTC))


def test_sites_share_results_and_reports_and_each_puts_its_own_films_away(
    new_site, server, tmp_path
):
    sites = [new_site("first"), new_site("second")]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for number, config in enumerate(sites):
        for film in range(3):
            (config.site.inbox / f"{number}-{film}.jpg").write_bytes(f"film:{film}".encode())
    server.dispose()  # no worker may inherit a connection
    pids = [fork(lambda config=config: live(config.root, scratch)) for config in sites]
    try:
        assert eventually(lambda: all(len(list(c.site.done.iterdir())) == 3 for c in sites), 40)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        ends = [os.waitpid(pid, 0)[1] for pid in pids]
    assert ends == [0, 0]
    for number, config in enumerate(sites):
        names = sorted(path.name for path in config.site.done.iterdir())
        assert names == [f"{number}-{film}.jpg" for film in range(3)]
    rows = films_of(server, "file", "state", "site_mark", "worker_id")
    assert len(rows) == 6
    assert {(name[0], mark) for name, _, mark, _ in rows} == {
        (str(number), (config.site.work / MARK).read_text().strip())
        for number, config in enumerate(sites)
    }
    assert sorted(state for _, state, _, _ in rows) == ["duplicate"] * 3 + ["screened"] * 3
    assert len(list((sites[0].site.reports / "films").iterdir())) == 3


def test_a_second_host_with_the_same_folders_joins_the_site(new_site, server):
    config = new_site("first")
    mark = join(config, server)
    remembered_mark(config).unlink()  # another host remembers nothing
    assert join(config, server) == mark
    assert site_marks(server) == [mark]


def test_a_work_folder_that_lost_its_mark_is_no_other_site_but_a_share_that_is_gone(
    new_site, server
):
    config = new_site("first")
    join(config, server)
    (config.site.work / MARK).unlink()
    with pytest.raises(ShareGone, match=r"site\.work"):
        join(config, server)
    assert len(site_marks(server)) == 1


def test_the_work_folder_of_another_site_is_not_taken_for_ones_own(new_site, server):
    first, second = new_site("first"), new_site("second")
    marks = [join(first, server), join(second, server)]
    assert site_marks(server) == marks
    (first.site.work / MARK).write_text(marks[1])
    with pytest.raises(ShareGone, match=r"site\.work"):
        join(first, server)


def test_a_site_whose_reports_are_not_those_of_the_database_is_refused(new_site, server):
    first, second = new_site("first"), new_site("second")
    join(first, server)
    (first.site.reports / MARK).unlink()
    with pytest.raises(ShareGone, match=r"site\.reports"):
        join(second, server)
    assert len(site_marks(server)) == 1


def test_the_mark_of_a_database_is_that_of_its_first_site_for_good(server, noon):
    """Each update moves rows: readers were once told the mark of the second site."""
    first, second = "a" * 32, "b" * 32
    keep_site_mark(server, first, noon)
    add_site_mark(server, second, noon + timedelta(seconds=1))
    with server.begin() as connection:
        connection.execute(
            text("UPDATE site SET pages_safe = 7 WHERE mark = :mark"), {"mark": first}
        )
    assert site_mark(server) == keep_site_mark(server, "c" * 32, noon) == first
