"""Leases: each waiting film to one worker, counted first; lost leases leave no trace."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, text

from tests.cluster.conftest import MARK, feed
from tests.standin import prepared_film
from worker.errors import CorruptFile
from worker.intake.found import INBOX
from worker.records import Decision, Record
from worker.store.archives import waiting_after
from worker.store.leases import (
    count_crash,
    give_back,
    lease,
    let_go,
    renew,
    take_back,
    take_over,
)
from worker.store.outcomes import Duplicate, Failed, Screened, finish
from worker.store.work import add_strike, claimed_files, end_run, record, register_model
from worker.store.workers import (
    end_runs_of_the_dead,
    end_worker,
    living_workers,
    other_models,
    workers,
)


@pytest.fixture
def holder(new_holder):
    return new_holder()


@pytest.fixture
def films(server, holder, noon):
    """Six waiting films of the inbox."""
    return feed(server, holder, noon, 6)


def take(server, holder, limit=10, alone=True):
    return lease(server, holder, INBOX, limit=limit, site_mark=MARK, alone=alone)


def ids(items):
    return [item.id for item in items]


def column(server, name, table="files"):
    with server.connect() as connection:
        return list(connection.scalars(text(f"SELECT {name} FROM {table} ORDER BY id")))


def run_out(server):
    """All leases end a moment ago."""
    with server.begin() as connection:
        connection.execute(text("UPDATE files SET lease_until = lease_until - interval '1 hour'"))


def screened(item, content=None):
    film = prepared_film(content or item.found.file.encode())
    record_ = Record(
        file=item.found.file,
        sha256=film.sha256,
        decision=Decision.NORMAL,
        probability=0.1,
        threshold=0.6,
        guard_score=0.2,
        guard_threshold=0.5,
        reason=None,
        message="",
        model="tiny",
        weights_sha256="cd" * 32,
    )
    evidence = np.zeros((3, 3), np.float32)
    return Screened(item, record_, film, evidence, "films/p.html", "pictures/p.jpg", "p.jpg")


def end(server, holder, outcomes, noon):
    return finish(server, outcomes, run_id=holder.run_id, model_id=holder.model_id, now=noon)


def test_films_come_in_their_order_and_are_counted_before_they_are_given(server, holder, films):
    leased = take(server, holder, limit=4)
    assert ids(leased) == ids(films)[:4]
    assert column(server, "state") == ["attempted"] * 4 + ["waiting"] * 2
    assert column(server, "attempts") == [1, 1, 1, 1, 0, 0]
    assert column(server, "worker_id") == [holder.worker_id] * 4 + [None] * 2
    assert len({item.token for item in leased}) == 4
    assert leased[0].found == films[0].found


def test_no_film_is_given_twice_to_workers_that_ask_at_once(server, new_holder, films):
    holders = [new_holder() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda each: take(server, each, limit=2), holders))
    given = [number for items in taken for number in ids(items)]
    assert sorted(given) == sorted(set(given))
    rest = [number for each in holders for number in ids(take(server, each))]
    assert sorted(given + rest) == ids(films)


def test_a_film_in_another_sites_work_folder_is_not_given(server, holder, films):
    assert lease(server, holder, INBOX, limit=9, site_mark="cd" * 16) == []


def test_files_of_archives_come_for_their_model_only(server, holder, new_holder, noon, new_card):
    other = register_model(server, new_card(version="9"), "prepare-2", noon)
    manifest = feed(server, holder, noon, 3, "/archive", None)
    assert lease(server, new_holder(model=other), "/archive", limit=9) == []
    assert lease(server, holder, "/elsewhere", limit=9) == []
    assert ids(lease(server, holder, "/archive", limit=2)) == ids(manifest)[:2]
    assert ids(lease(server, holder, None, limit=9)) == ids(manifest)[2:]


def test_a_lease_that_is_renewed_is_not_taken_back(server, holder, films):
    take(server, holder)
    run_out(server)
    assert renew(server, holder) == 6
    assert take_back(server) == 0


def test_an_expired_lease_is_taken_back_and_the_film_remembers_it(server, holder, films):
    take(server, holder, limit=2)
    run_out(server)
    assert take_back(server) == 2
    assert column(server, "state") == ["waiting"] * 6
    assert column(server, "worker_deaths") == [1, 1, 0, 0, 0, 0]
    assert renew(server, holder) == 0


def test_what_is_given_back_is_blamed_on_nobody(server, holder, films):
    take(server, holder)
    assert give_back(server, holder) == 6
    assert column(server, "worker_deaths") == [0] * 6
    assert column(server, "lease_token") == [None] * 6


def test_what_a_run_lets_go_at_its_end_is_anybodys_without_a_token(server, holder, model_id, noon):
    """A driver of actors ends while they hold films: a backfill on one host screens those next."""
    feed(server, holder, noon, 2, "/archive", None)
    held = lease(server, holder, "/archive", limit=2)
    end_run(server, holder.run_id, noon)
    assert column(server, "lease_token") == column(server, "lease_until") == [None] * 2
    waiting = waiting_after(server, "/archive", model_id, 0, 9)
    assert [item.token for item in waiting] == [None] * 2
    assert end(server, holder, [screened(held[0])], noon) == []
    assert end(server, holder, [screened(waiting[0])], noon)


def test_a_file_that_waits_has_no_token_whatever_its_row_says(server, holder, model_id, noon):
    feed(server, holder, noon, 1, "/archive", None)
    lease(server, holder, "/archive", limit=1)
    with server.begin() as connection:
        connection.execute(text("UPDATE files SET state = 'waiting'"))
    [item] = waiting_after(server, "/archive", model_id, 0, 9)
    assert item.token is None


def test_the_files_of_a_dead_worker_are_taken_over_at_once(server, holder, new_holder, films):
    take(server, holder, limit=3)
    take(server, new_holder(), limit=1)
    assert take_over(server, holder.worker_id) == 3
    assert column(server, "worker_deaths") == [1, 1, 1, 0, 0, 0]


def test_a_film_that_was_in_hand_when_a_worker_died_comes_alone(server, holder, films):
    take(server, holder, limit=3)
    take_over(server, holder.worker_id)
    assert take(server, holder, alone=False) == []
    assert ids(take(server, holder)) == ids(films)[:1]


def test_films_before_such_a_film_come_without_it(server, holder, films):
    with server.begin() as connection:
        connection.execute(text(f"UPDATE files SET worker_deaths = 1 WHERE id = {films[2].id}"))
    assert ids(take(server, holder, alone=False)) == ids(films)[:2]


def test_results_under_a_lost_lease_are_dropped_and_the_rest_is_written(
    server, holder, new_holder, films, noon
):
    leased = take(server, holder, limit=3)
    with server.begin() as connection:  # the first only
        late = f"UPDATE files SET lease_until = now() - interval '1 day' WHERE id = {leased[0].id}"
        connection.execute(text(late))
    take_back(server)
    [again] = take(server, new_holder(), limit=1)
    assert again.id == leased[0].id
    outcomes = [
        screened(leased[0]),
        screened(leased[1]),
        Failed(leased[2], None, CorruptFile("x"), "x"),
    ]
    assert end(server, holder, outcomes, noon) == outcomes[1:]
    assert column(server, "state")[:3] == ["attempted", "screened", "failed"]
    assert len(column(server, "id", "screenings")) == 1
    assert end(server, new_holder(), [screened(again)], noon)
    assert len(column(server, "id", "screenings")) == 2


def test_a_lease_that_ran_out_and_that_nobody_took_back_still_counts(server, holder, films, noon):
    [item] = take(server, holder, limit=1)
    run_out(server)
    assert end(server, holder, [screened(item)], noon)


def test_a_token_of_an_earlier_lease_of_the_same_worker_is_worth_nothing(
    server, holder, films, noon
):
    [item] = take(server, holder, limit=1)
    give_back(server, holder)
    [again] = take(server, holder, limit=1)
    assert again.id == item.id
    assert end(server, holder, [screened(item)], noon) == []
    assert end(server, holder, [screened(again)], noon)


def test_a_result_is_not_written_twice(server, holder, films, noon):
    [item] = take(server, holder, limit=1)
    assert end(server, holder, [screened(item)], noon)
    assert end(server, holder, [screened(item)], noon) == []


def test_a_copy_is_not_written_without_the_answer_that_was_lost_with_its_film(
    server, holder, films, noon
):
    first, copy = take(server, holder, limit=2)
    let_go(server, [first])
    answer = screened(first, b"same")
    assert end(server, holder, [answer, Duplicate(copy, answer.content, "c.jpg")], noon) == []
    let_go(server, [copy])
    assert column(server, "state") == ["waiting"] * 6


def test_two_workers_with_the_same_content_make_one_result(server, holder, new_holder, films, noon):
    [one], other = take(server, holder, limit=1), new_holder()
    [two] = take(server, other, limit=1)
    assert end(server, holder, [screened(one, b"same")], noon)
    assert end(server, other, [screened(two, b"same")], noon)
    assert column(server, "state")[:2] == ["screened", "duplicate"]
    assert len(column(server, "id", "screenings")) == 1


def test_a_strike_counts_under_a_lease_that_is_held_only(server, holder, films):
    [item] = take(server, holder, limit=1)
    assert add_strike(server, item).strikes == 1
    give_back(server, holder)
    add_strike(server, replace(item, strikes=1))
    assert column(server, "strikes")[0] == 1


def test_a_crash_counts_against_films_that_have_not_ended(server, holder, films, noon):
    items = take(server, holder, limit=2)
    end(server, holder, [screened(items[0])], noon)
    count_crash(server, ids(items))
    assert column(server, "worker_crashes")[:2] == [0, 1]


def test_a_worker_lives_by_its_heartbeat(server, holder, new_holder):
    other = new_holder()
    assert living_workers(server, 60) == [holder.worker_id, other.worker_id]
    with server.begin() as connection:
        late = "UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE id = "
        connection.execute(text(late + str(holder.worker_id)))
    assert living_workers(server, 60) == [other.worker_id]
    renew(server, holder)
    end_worker(server, other.worker_id)
    assert living_workers(server, 60) == [holder.worker_id]
    assert [each.id for each in workers(server)] == [other.worker_id, holder.worker_id]


def test_runs_of_dead_workers_are_interrupted_and_those_of_living_ones_go_on(
    server, holder, new_holder, noon
):
    end_worker(server, new_holder().worker_id)
    end_runs_of_the_dead(server, 60, noon)
    assert column(server, "note", "runs") == [None, "interrupted"]


def test_a_run_that_begins_while_those_of_the_dead_are_ended_goes_on(server, new_holder, noon):
    def begin_another(_connection, _cursor, statement, *_):
        if statement.startswith("UPDATE runs"):
            new_holder()

    event.listen(server, "before_cursor_execute", begin_another)
    end_runs_of_the_dead(server, 60, noon)
    assert column(server, "note", "runs") == [None]


def test_a_worker_is_told_of_others_that_decide_otherwise(
    server, holder, new_holder, noon, new_card
):
    other = register_model(server, new_card(version="9"), "prepare-2", noon)
    new_holder(model=other)
    living = living_workers(server, 60)
    assert other_models(server, holder.model_id, living) == ["tiny 9"]
    assert other_models(server, holder.model_id, living[:1]) == []


def test_a_backfill_by_another_model_keeps_no_worker_from_watching(
    server, holder, new_holder, noon, new_card
):
    other = register_model(server, new_card(version="9"), "prepare-2", noon)
    new_holder(model=other, kind="backfill")
    assert other_models(server, holder.model_id, living_workers(server, 60)) == []


def test_a_claim_has_one_row_wherever_a_host_mounts_the_share(server, holder, noon):
    """A worker was paused before it recorded a claim, and its successor's sweep found it first."""
    here = [item.found for item in feed(server, holder, noon, 1)]
    there = replace(here[0], path=Path("/mnt/work/0/0.jpg"))
    ids = (holder.run_id, holder.model_id)
    assert record(server, [there], *ids, noon, site_mark=MARK) == []
    assert [known.found for known, _ in claimed_files(server, ["0"]).values()] == here
