"""The office: one worker has it, and loses it with its connection or its silence."""

import pytest
from sqlalchemy import text

from tests.cluster.conftest import eventually
from worker.errors import SiteBusy, StoreError
from worker.store.office import Office, only_backfill
from worker.store.workers import register_worker

MARK, OTHER = "f1" * 16, "0a" * 16


@pytest.fixture
def new_office(server):
    made = []

    def make(mark=MARK, silent_s=60.0):
        made.append(Office(server, register_worker(server, "host", 1), mark, silent_s))
        return made[-1]

    yield make
    for office in made:
        office.give_up()


def terminate_all(server):
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    asked = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
    with server.connect() as connection:
        connection.execute(text(asked))


def test_one_worker_has_it_until_it_gives_it_up(new_office):
    one, two = new_office(), new_office()
    assert one.held()
    assert not two.held()
    assert one.held()
    one.give_up()
    assert eventually(two.held)
    assert not one.held()


def test_each_site_has_an_office_of_its_own(new_office):
    assert new_office().held()
    assert new_office(OTHER).held()


def test_it_is_lost_with_its_connection_and_that_is_noticed_when_it_is_asked_for(
    server, new_office
):
    one, two = new_office(), new_office()
    assert one.held()
    terminate_all(server)
    with pytest.raises(StoreError):
        one.held()
    assert two.held()
    assert not one.held()


def test_a_worker_that_is_silent_is_relieved_of_it_and_one_that_lives_is_not(server, new_office):
    one, two = new_office(), new_office()
    assert one.held()
    assert not two.held()
    with server.begin() as connection:
        late = "UPDATE workers SET heartbeat_at = heartbeat_at - interval '61 s' WHERE id = 1"
        connection.execute(text(late))
    assert eventually(two.held)
    with pytest.raises(StoreError):
        one.held()
    assert not one.held()


def can_backfill(server):
    try:
        with only_backfill(server):
            return True
    except SiteBusy:
        return False


@pytest.fixture
def cut():
    """Cut the connection that holds a lock, as the server's restart does."""

    def cut_it(server):
        holders = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        with server.begin() as connection:
            connection.execute(text(holders))

    return cut_it


def test_a_backfill_learns_that_it_may_not_be_the_only_one_any_more(server, cut):
    with only_backfill(server) as turn:
        turn.require()
        cut(server)
        assert eventually(lambda: can_backfill(server))
        for _ in range(3):  # for good: another may have run and ended meanwhile
            with pytest.raises(StoreError, match="another may run by now"):
                turn.require()
    assert can_backfill(server)


def test_whoever_leases_takes_its_turn_again_unless_another_has_it(server, cut):
    with only_backfill(server) as turn:
        cut(server)
        turn.regain()
        assert not can_backfill(server)
        cut(server)
        assert eventually(lambda: can_backfill(server))
        with only_backfill(server):
            for _ in range(2):
                with pytest.raises(SiteBusy, match="another backfill"):
                    turn.regain()
        assert eventually(lambda: can_backfill(server))
        turn.regain()
        assert not can_backfill(server)
    assert eventually(lambda: can_backfill(server))


def test_backfills_come_one_after_the_other(server):
    with only_backfill(server):
        assert not can_backfill(server)
    assert eventually(lambda: can_backfill(server))
