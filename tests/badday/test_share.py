"""A share that goes and comes back, turns read-only, or loses a folder: act on no absence."""

import os

import pytest

from tests.badday.conftest import unmount
from tests.badday.ward import FILMS, drop, is_empty, new_site, query, wait_until, wrongs
from worker.config import load_config

FOLDERS = ("inbox", "work", "done", "failed", "reports")


@pytest.fixture
def share(tmp_path, mounts):
    """A site whose folders lie on a share, its database on this machine; (site, mount, unmount)."""
    store, point = tmp_path / "store", tmp_path / "share"
    store.mkdir()
    point.mkdir()
    for name in FOLDERS:  # what lies on the bare mount point, to be taken for the share
        (point / name).mkdir()
    (point / "inbox" / "decoy.jpg").write_bytes(b"decoy")
    config = new_site(tmp_path / "site")
    for name in FOLDERS:
        (config.root / name).rename(store / name)
    text = (config.root / "config.toml").read_text()
    places = "".join(f"{name} = '{point / name}'\n" for name in FOLDERS)
    (config.root / "config.toml").write_text(f"[site]\n{places}{text}")
    mounts("--bind", store, point)
    return load_config(config.root / "config.toml"), lambda: mounts("--bind", store, point), point


@pytest.mark.slow
def test_a_share_that_goes_and_comes_back_loses_nothing_and_its_bare_folder_gains_nothing(
    share, worker, tree
):
    config, mount_again, point = share
    watching = worker(config)
    drop(config)
    assert wait_until(lambda: is_empty(config))
    assert wait_until((config.site.reports / "index.html").exists)
    unmount(point)
    before = tree(point)
    assert watching.says("intake paused", times=3)
    assert tree(point) == before
    mount_again()
    drop(config, {"later.jpg": b"later"})
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    assert wrongs(config, FILMS | {"later.jpg": b"later"}) == []
    unmount(point)
    assert tree(point) == before


@pytest.mark.slow
def test_a_share_that_goes_in_the_middle_of_its_films_loses_none(share, worker, tree):
    config, mount_again, point = share
    films = {f"{number}.jpg": b"film %d" % number for number in range(60)}
    watching = worker(config)
    for chance in range(3):
        batch = dict(list(films.items())[chance * 20 : chance * 20 + 20])
        drop(config, batch)
        done = query(config, "SELECT count(*) FROM files")[0][0]
        wait_until(lambda done=done: query(config, "SELECT count(*) FROM files")[0][0] > done)
        unmount(point)
        before = tree(point)
        assert watching.says("intake paused", times=chance + 1)
        assert tree(point) == before
        mount_again()
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    assert wrongs(config, films) == []


@pytest.mark.slow
def test_a_share_that_turns_read_only_and_back_costs_no_film(share, worker, mounts, tmp_path):
    config, _, point = share
    watching = worker(config)
    drop(config)
    mounts("--bind", "-o", "ro", tmp_path / "store", point)
    assert watching.says("Read-only file system")
    unmount(point)
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    assert wrongs(config) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["done", "failed", "reports", "inbox", "work"])
def test_a_folder_that_vanishes_and_comes_back_costs_no_film(tmp_path, worker, name):
    config = new_site(tmp_path / "site")
    watching = worker(config)
    folder, away = config.root / name, config.root / "away"
    drop(config)
    folder.rename(away)
    assert watching.says("intake paused")
    assert not folder.exists()
    away.rename(folder)
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    assert wrongs(config) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["done", "failed", "reports", "inbox", "work"])
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_that_may_not_be_written_costs_no_film(tmp_path, worker, name, mode):
    config = new_site(tmp_path / "site")
    watching = worker(config, obedient=True)
    folder = config.root / name
    rights = folder.stat().st_mode & 0o7777
    folder.chmod(mode)
    drop(config) if os.geteuid() == 0 or name != "inbox" else None
    assert watching.says("Permission denied")
    folder.chmod(rights)
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    assert wrongs(config) == []
