"""One worker among several: what it does with films, and when its leases are lost."""

from contextlib import ExitStack

import pytest
from sqlalchemy import text

from tests.cluster.conftest import films_of
from tests.cluster.field import SETTINGS
from tests.standin import StandInScreener
from worker import failpoints
from worker.cluster.member import Member
from worker.cluster.membership import checked, membership
from worker.config import load_config
from worker.errors import LeaseLost, SiteBusy
from worker.pipeline import Pipeline
from worker.site import hold_site, share_site
from worker.store.workers import living_workers


@pytest.fixture
def config(site, server_url):
    settings = SETTINGS.format(lease_s=60, url=server_url)
    (site.root / "config.toml").write_text(settings)
    return load_config(site.root / "config.toml")


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def new_member(config, stack, card):
    """Another worker of the site, with what makes it one."""

    def make(screener=None):
        screener = screener or StandInScreener(card)
        engine = stack.enter_context(share_site(config))
        mine = stack.enter_context(membership(config, engine, screener))
        check = checked(config, engine, mine)

        def make_pipeline(shelves):
            return Pipeline(
                engine,
                screener,
                config,
                run_id=mine.holder.run_id,
                model_id=mine.holder.model_id,
                check=check,
                name_for=shelves.name_for,
            )

        beat = {"check": check, "beat": lambda *_, **__: None}
        member = Member(engine, config, make_pipeline, mine, **beat)
        member.mine, member.screener = mine, screener
        return member

    return make


@pytest.fixture
def armed():
    """Do something once when a step of the protocol is reached."""
    disarm = []

    def arm(point, deed):
        def hook(name):
            if name == point:
                while disarm:
                    disarm.pop()()
                deed()

        disarm.append(failpoints.arm(hook))

    yield arm
    while disarm:
        disarm.pop()()


def drop(config, *names):
    for name in names:
        (config.site.inbox / name).write_bytes(f"film {name}".encode())


def done(config):
    return sorted(path.name for path in config.site.done.iterdir())


def execute(server, statement):
    with server.begin() as connection:
        connection.execute(text(statement))


def test_films_of_the_inbox_are_screened_and_put_away(config, new_member, server):
    drop(config, "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    member = new_member()
    member.drain()
    assert done(config) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
    assert films_of(server, "state", "attempts") == [("screened", 1)] * 5
    assert (config.site.reports / "index.html").read_text().count("e.jpg")


def test_only_one_takes_films_in_and_the_other_screens_what_it_recorded(config, new_member, server):
    one, two = new_member(), new_member()
    drop(config, "a.jpg")
    look = one.turn()
    assert look
    assert one.has_office()
    assert two.turn() is None
    assert not two.has_office()


def test_films_that_came_from_sqlite_with_nobodys_mark_are_screened(
    config, new_member, server, armed
):
    """As `screen db copy` leaves them: one waits, the other was in hand when its worker died."""
    drop(config, "a.jpg", "b.jpg")
    first = new_member()
    armed("files-recorded", first.stop)
    while len(films_of(server, "id")) < 2:
        first.turn()
    execute(server, "UPDATE files SET site_mark = NULL")
    execute(server, "UPDATE files SET state = 'attempted' WHERE file = 'b.jpg'")
    new_member().drain()
    assert done(config) == ["a.jpg", "b.jpg"]
    rows = films_of(server, "file", "state", "worker_deaths")
    assert sorted(rows) == [("a.jpg", "screened", 0), ("b.jpg", "screened", 1)]


def test_a_film_whose_lease_is_lost_before_its_result_is_written_is_left_to_others(
    config, new_member, server, armed
):
    drop(config, "a.jpg", "b.jpg")
    member = new_member()
    stolen = "UPDATE files SET lease_token = 0, worker_id = 99 WHERE file = 'a.jpg'"
    armed("pages-written", lambda: execute(server, stolen))
    while len(films_of(server, "id")) < 2 or not done(config):
        member.turn()
    assert done(config) == ["b.jpg"]
    rows = films_of(server, "file", "state", "worker_id")
    assert sorted(rows)[0] == ("a.jpg", "attempted", 99)
    execute(server, "UPDATE files SET state = 'waiting', lease_token = NULL WHERE file = 'a.jpg'")
    member.drain()
    assert done(config) == ["a.jpg", "b.jpg"]
    assert [state for (state,) in films_of(server, "state")] == ["screened"] * 2


def test_a_worker_that_was_paused_throws_away_what_it_has_and_goes_on(
    config, new_member, server, armed
):
    drop(config, "a.jpg")
    member = new_member()

    def sleep():
        member.mine.keeper._renewed_at -= 61.0

    armed("batch-answered", sleep)
    with pytest.raises(LeaseLost):
        member.drain()
    assert films_of(server, "state", "attempts") == [("attempted", 1)]
    assert not (config.site.reports / "films").exists()
    member.drain()
    rows = films_of(server, "state", "attempts", "worker_deaths")
    assert rows == [("screened", 2, 0)]


def test_films_that_were_in_hand_when_a_worker_died_go_alone_in_their_turn(
    config, new_member, server
):
    drop(config, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    member = new_member()
    member._stop.set()  # takes films in, and screens none
    while len(films_of(server, "id")) < 4:
        member.turn()
    member._stop.clear()
    execute(server, "UPDATE files SET worker_deaths = 1 WHERE file IN ('b.jpg', 'c.jpg')")
    member.drain()
    assert member.screener.answered == [["a.jpg"], ["b.jpg"], ["c.jpg"], ["d.jpg"]]


def test_a_worker_that_ends_gives_back_what_it_holds_and_is_no_member_any_more(
    config, new_member, server, stack, armed
):
    drop(config, "a.jpg")
    member = new_member()
    armed("attempt-counted", member.stop)
    while not films_of(server, "id"):
        member.turn()
    member.finish_up()
    stack.close()
    assert films_of(server, "state", "worker_deaths") in ([("waiting", 0)], [("screened", 0)])
    assert living_workers(server, 60) == []
    assert films_of(server, "id") == [(1,)]


def test_a_worker_that_would_decide_otherwise_than_the_others_does_not_start(new_member, new_card):
    new_member()
    with pytest.raises(SiteBusy, match="other workers of this database decide by tiny 0"):
        new_member(StandInScreener(new_card(weights=new_card().weights.model_copy(
            update={"sha256": "ab" * 32}
        ))))  # fmt: skip


def test_a_backfill_may_hold_the_site_beside_workers_that_watch(config, new_member):
    new_member()
    with hold_site(config), pytest.raises(SiteBusy, match="another backfill"), hold_site(config):
        pass


def test_status_names_the_workers_and_says_who_is_silent(config, new_member, server, screen):
    new_member()
    new_member()
    late = "heartbeat_at = heartbeat_at - interval '99 s'"
    execute(server, f"UPDATE workers SET host = 'a', {late} WHERE id = 1")
    said = screen("status", cwd=config.root).stdout
    assert "worker   a, process" in said
    assert "silent for" in said
    assert "sign of life" in said
