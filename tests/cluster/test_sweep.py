"""What silent workers left is taken up when it has lain there for as long as a lease."""

import pytest

from worker.cluster.shelves import SharedShelves
from worker.cluster.sweep import Sweep


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def sweep(server, site, clock):
    return Sweep(server, site.site, SharedShelves(site.site, server), 60.0, lambda: clock[0])


def claim(site, name, content=b"film"):
    folder = site.site.work / name
    folder.mkdir()
    if content:
        (folder / "a.jpg").write_bytes(content)
    return folder


def test_a_film_that_nobody_recorded_is_found_when_its_worker_had_time_enough(site, sweep, clock):
    claim(site, "c1")
    assert sweep.claims() == []
    clock[0] = 59.0
    assert sweep.claims() == []
    clock[0] = 60.0
    [found] = sweep.claims()
    assert (found.claim, found.file, found.size) == ("c1", "a.jpg", 4)


def test_a_folder_that_went_and_came_again_is_new(site, sweep, clock):
    folder = claim(site, "c1")
    sweep.claims()
    (folder / "a.jpg").unlink()
    folder.rmdir()
    clock[0] = 50.0
    sweep.claims()
    claim(site, "c1")
    clock[0] = 70.0
    assert sweep.claims() == []


def test_an_empty_folder_is_removed(site, sweep, clock):
    folder = claim(site, "c1", None)
    sweep.claims()
    assert folder.exists()
    clock[0] = 60.0
    assert sweep.claims() == []
    assert not folder.exists()


def test_half_written_files_of_living_workers_are_left_alone(site, sweep, clock):
    half = site.site.reports / ".screen-x.tmp"
    half.touch()
    sweep.temporary()
    clock[0] = 59.0
    sweep.temporary()
    assert half.exists()
    clock[0] = 60.0
    sweep.temporary()
    assert not half.exists()
