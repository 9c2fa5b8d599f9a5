"""A worker's seat on its host: what a dead one left is settled by the next in its place."""

import os
import signal

import pytest

from tests.cluster.conftest import films_of, leased_by
from worker.cluster.seat import seat_taken
from worker.store.leases import take_over
from worker.store.workers import living_workers


@pytest.fixture
def state(tmp_path):
    return tmp_path / "screen"


def test_two_workers_of_a_host_have_different_seats_and_free_ones_are_taken_again(state):
    with seat_taken(state) as first, seat_taken(state) as second:
        assert (first.path.name, second.path.name) == ("screen", "screen-2")
    with seat_taken(state) as again:
        assert again.path == state


def test_a_seat_is_free_when_its_process_was_killed(state):
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        with seat_taken(state):
            os.write(tell, b"x")
            signal.pause()
    os.read(ready, 1)
    with seat_taken(state) as beside:
        assert beside.path.name == "screen-2"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with seat_taken(state) as seat:
        assert seat.path == state


def test_the_films_of_the_one_that_was_killed_wait_again_at_once(server, new_holder, state, noon):
    holder = new_holder()
    items = leased_by(server, holder, noon, 3)
    with seat_taken(state) as seat:
        seat.worker_id = holder.worker_id
        seat.note([item.id for item in items])
    with seat_taken(state) as seat:
        assert seat.settle_predecessor(server) == 3
        assert seat.settle_predecessor(server) == 0
    rows = films_of(server, "state", "worker_deaths", "worker_crashes")
    assert rows == [("waiting", 1, 0)] * 3
    assert living_workers(server, 60) == []


def test_a_crash_is_counted_against_what_was_in_hand_though_others_have_it_by_now(
    server, new_holder, state, noon
):
    holder = new_holder()
    one, two = leased_by(server, holder, noon, 2)
    with seat_taken(state) as seat:
        seat.worker_id = holder.worker_id
        seat.note([one.id])
        seat.crash.arm()
        seat.crash.note(ValueError("of the program"))
        seat.crash.disarm()
    take_over(server, holder.worker_id)
    with seat_taken(state) as seat:
        seat.settle_predecessor(server)
    rows = films_of(server, "id", "worker_crashes")
    assert rows == [(one.id, 1), (two.id, 0)]


def test_who_ends_in_order_leaves_nothing_to_settle(server, new_holder, state, noon):
    holder = new_holder()
    leased_by(server, holder, noon, 1)
    with seat_taken(state) as seat:
        seat.worker_id = holder.worker_id
        seat.note([1])
        seat.leave()
    with seat_taken(state) as seat:
        assert seat.settle_predecessor(server) == 0
    assert films_of(server, "state") == [("attempted",)]
