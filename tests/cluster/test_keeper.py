"""Leases are kept while the worker goes on, and given up for lost when they could not be."""

import time

import pytest
from sqlalchemy import text

from tests.cluster.conftest import feed, films_of, leased_by
from worker.cluster.keeper import Keeper, await_the_dead
from worker.errors import LeaseLost
from worker.store.leases import lease


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keeper(server, new_holder, clock, noon):
    holder = new_holder()
    leased_by(server, holder, noon, 1)
    return Keeper(server, holder, clock)


def until(server):
    [(moment,)] = films_of(server, "lease_until")
    return moment


def test_a_tick_prolongs_the_lease(server, keeper, clock):
    before = until(server)
    keeper.tick()
    assert until(server) > before
    clock.now_s += 59.0
    keeper.require_lease()


def test_a_worker_that_was_paused_beyond_its_lease_is_told(keeper, clock):
    keeper.tick()
    clock.now_s += 61.0
    with pytest.raises(LeaseLost, match="not reached for 61 s"):
        keeper.require_lease()
    keeper.alive()
    keeper.tick()
    keeper.require_lease()


def test_a_worker_that_hangs_keeps_nothing(server, keeper, clock):
    before = until(server)
    clock.now_s += 121.0
    keeper.tick()
    assert until(server) == before
    keeper.alive()
    keeper.tick()
    assert until(server) > before


def test_the_films_of_others_that_are_silent_are_taken_back(server, keeper, new_holder, noon):
    late = "UPDATE files SET lease_until = lease_until - interval '1 hour', worker_id = 99"
    with server.begin() as connection:
        connection.exec_driver_sql(late)
    keeper.tick()
    assert films_of(server, "state", "worker_deaths") == [("waiting", 1)]


@pytest.fixture
def of_archive(server, new_holder, noon):
    """Two films of an archive in the hands of a worker; gives its model."""
    holder = new_holder()
    feed(server, holder, noon, 2, "/archive", None)
    lease(server, holder, "/archive", limit=2)
    return holder.model_id


def test_what_dead_workers_hold_of_an_archive_waits_again_when_their_leases_end(server, of_archive):
    def pause(_seconds):
        with server.begin() as connection:
            connection.execute(text("UPDATE files SET lease_until = now() - interval '1 day'"))

    assert await_the_dead(server, ["/archive"], of_archive, 60, pause) == 0
    assert films_of(server, "state", "worker_deaths") == [("waiting", 1)] * 2


def test_what_living_workers_hold_stays_theirs_and_is_said(server, of_archive):
    pauses = []
    assert await_the_dead(server, ["/archive"], of_archive, 3, pauses.append) == 2
    assert sum(pauses) >= 3
    assert films_of(server, "state") == [("attempted",)] * 2


def test_nobody_waits_for_films_of_other_archives(server, of_archive):
    assert await_the_dead(server, ["/other"], of_archive, 60, pytest.fail) == 0


def test_a_host_that_sleeps_knows_how_long(server, new_holder, monkeypatch):
    """`time.monotonic` stands still meanwhile."""
    real, slept_s = time.clock_gettime, 0.0

    def clock(which):
        return real(which) + slept_s * (which == time.CLOCK_BOOTTIME)

    monkeypatch.setattr(time, "clock_gettime", clock)
    keeper = Keeper(server, new_holder())
    keeper.tick()
    keeper.require_lease()
    slept_s = 61.0
    with pytest.raises(LeaseLost):
        keeper.require_lease()
