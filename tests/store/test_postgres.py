"""What is PostgreSQL's own: the server, who may do what there, and who writes at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from worker.config import Database
from worker.errors import ConfigError, StoreError, UsageError
from worker.store import postgres as module
from worker.store.counts import counts_by_decision
from worker.store.database import integrity_problems, open_database, upgrade
from worker.store.queries import results
from worker.store.sql import ask, reading
from worker.store.work import add_strike, record, register_model

pytestmark = pytest.mark.databases("postgresql")


def asked(url, **changes):
    """What the database answers, or refuses, at the first question."""
    engine = open_database(Database(url=url, busy_timeout_s=2))
    try:
        return counts_by_decision(engine)
    finally:
        engine.dispose()


# Refusals


def test_a_server_that_does_not_run_is_a_store_error_that_says_so(tmp_path):
    with pytest.raises(StoreError, match=r"(?s)refused.*Check that it runs"):
        asked(f"postgresql://screen@/screen?host={tmp_path}")


def test_a_database_that_is_not_there_says_how_to_make_it(postgres):
    with pytest.raises(StoreError, match="createdb --encoding UTF8"):
        asked(postgres.url("nowhere"))


def test_a_user_that_is_not_there_says_what_to_check(settings):
    with pytest.raises(StoreError, match=r"Check the user in database\.url"):
        asked(settings.url.replace("screen@", "stranger@"))


def test_a_database_without_tables_says_to_make_them(empty_url):
    with pytest.raises(StoreError, match="screen db upgrade"):
        asked(empty_url)


def test_text_that_is_not_utf8_is_refused(postgres):
    with postgres.database(encoding="SQL_ASCII") as url, pytest.raises(StoreError, match="UTF8"):
        asked(url)


def test_an_old_server_is_refused(settings, monkeypatch):
    monkeypatch.setattr(module, "OLDEST", 99)
    with pytest.raises(StoreError, match="99 or newer"):
        asked(settings.url)


def test_without_its_driver_the_extra_is_named(settings, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"cxr-screen\[postgres\]"):
        open_database(settings)


def test_a_user_who_may_only_read_is_told_of_its_rights(engine, settings, postgres):
    postgres.run("DROP ROLE IF EXISTS looker")
    postgres.run("CREATE ROLE looker LOGIN")
    with engine.begin() as connection:
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker"))
    looker = open_database(Database(url=settings.url.replace("screen@", "looker@")))
    with pytest.raises(StoreError, match="check the rights"), looker.begin() as connection:
        connection.execute(text("DELETE FROM films"))
    looker.dispose()


def test_a_connection_that_the_server_cut_is_a_refusal_and_the_next_one_works(engine):
    with engine.connect() as connection, engine.connect() as other:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(StoreError, match="no film is lost"):
            connection.execute(text("DELETE FROM films"))
    assert counts_by_decision(engine)["PNEUMONIA"] == 0


def test_who_waits_for_a_lock_too_long_is_told_that_another_holds_it(engine, shop, settings):
    item = shop.item()
    other = open_database(settings)
    with other.begin() as connection:
        connection.execute(text("UPDATE files SET strikes = 0"))
        with pytest.raises(StoreError, match="no film is lost"):
            add_strike(engine, item)
    other.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://screen:secret@/screen?host=/nowhere",
        "postgresql+psycopg://screen:secret@/screen?host=/nowhere",
        "postgresql:///screen?user=screen&password=secret&host=/nowhere",
    ],
)
def test_no_message_shows_the_password(url):
    settings = Database(url=url)
    assert settings.has_password
    with pytest.raises(StoreError) as refused:
        asked(url)
    said = [str(refused.value), repr(settings), settings.shown_url, settings.tools_url]
    assert not [each for each in said if "secret" in each]
    with pytest.raises(ConfigError) as wrong:
        open_database(Database(url=url.replace("postgresql", "oracle", 1)))
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize("url", ["postgresql:u:secret@h/d", "host=h password=secret", "secret"])
def test_what_is_no_url_is_not_shown_at_all(url):
    settings = Database(url=url)
    with pytest.raises(ConfigError, match="no SQLAlchemy URL") as refused:
        open_database(settings)
    assert not [each for each in (str(refused.value), settings.shown_url) if "secret" in each]


# Safety


def test_a_commit_is_on_the_servers_disk_whatever_its_user_is_set_to(settings, postgres):
    name = settings.url.partition("?")[0].rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    engine = open_database(settings)
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
    engine.dispose()


def test_orphans_are_found(engine, shop):
    shop.finish(shop.screened(shop.item()))
    with engine.begin() as connection:
        connection.execute(text("SET session_replication_role = replica"))
        connection.execute(text("DELETE FROM films"))
    assert integrity_problems(engine) == ["1 rows of screenings point at nothing in films"]


def test_indexes_are_checked_where_amcheck_is_there(engine):
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION amcheck"))
    assert integrity_problems(engine) == []


def test_text_with_nul_is_kept_without_it(shop, engine, found):
    """The server cannot store NUL; a film that says it must not stop the worker."""
    (item,) = shop.items(found("a\0b.dcm", claim="c", path=found("x").path))
    shop.finish(shop.failed(item))
    assert [each.record.file for each in results(engine)] == ["a\N{REPLACEMENT CHARACTER}b.dcm"]


# At the same time


def together(*steps):
    """Run steps at the same time, each in a thread of its own; gives what they gave."""
    start = threading.Barrier(len(steps))

    def run(step):
        start.wait(10)
        return step()

    with ThreadPoolExecutor(len(steps)) as pool:
        return [each.result(60) for each in [pool.submit(run, step) for step in steps]]


def test_two_workers_migrate_one_database(empty_url):
    engines = [open_database(Database(url=empty_url)) for _ in range(2)]
    together(*(lambda engine=engine: upgrade(engine) for engine in engines))
    assert integrity_problems(engines[0]) == []
    for engine in engines:
        engine.dispose()


def test_workers_that_register_one_model_get_one_row(engine, new_card, noon):
    card = new_card(name="other")
    steps = [lambda: register_model(engine, card, "2/other", noon)] * 4
    assert len(set(together(*steps))) == 1


def test_workers_that_record_the_same_files_get_the_same_rows(engine, shop, found, noon):
    files = [found(f"{number}.dcm", source="/archive") for number in range(50)]
    order = [files, files[::-1], files, files[::-1]]
    steps = [
        lambda some=some: record(engine, some, shop.run_id, shop.model_id, noon) for some in order
    ]
    rows = together(*steps)
    assert len({item.id for items in rows for item in items}) == 50


def test_strikes_are_all_counted(engine, shop):
    item = shop.item()
    together(*([lambda: add_strike(engine, item)] * 8))
    assert add_strike(engine, item).strikes == 9


def test_the_same_contents_finished_by_several_workers_have_one_answer_each(shop, engine):
    contents = [f"{number:064x}" for number in range(20)]
    batches = [[shop.screened(shop.item(), content) for content in contents] for _ in range(4)]
    batches[1].reverse()
    batches[3].reverse()
    together(*(lambda batch=batch: shop.finish(*batch) for batch in batches))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM screenings")).scalar() == 20
        states = connection.execute(text("SELECT state, count(*) FROM files GROUP BY state")).all()
    assert dict(states) == {"screened": 20, "duplicate": 60}


def test_a_reader_sees_one_moment_in_all_its_questions(shop, settings):
    reader = open_database(settings, read_only=True)
    with reader.connect() as connection:
        before = connection.execute(text("SELECT count(*) FROM files")).scalar()
        shop.item()
        assert connection.execute(text("SELECT count(*) FROM files")).scalar() == before
    reader.dispose()


# Questions in SQL


@pytest.fixture
def connection(engine, settings, shop):
    shop.finish(shop.screened(shop.item()))
    with reading(settings) as connection:
        yield connection


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM files",
        "WITH gone AS (DELETE FROM files RETURNING id) SELECT * FROM gone",
        "SELECT 1; DELETE FROM files",
        "COMMIT; DELETE FROM files",
        "SELECT 1; COMMIT; BEGIN READ WRITE; DELETE FROM files",
        "COMMIT",
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT nextval('files_id_seq')",
        "SELECT * FROM files FOR UPDATE",
        "COPY files TO PROGRAM 'true'",
        "DROP TABLE files",
        "VACUUM",
        "",
        "-- nothing",
        "SELECT nothing FROM nowhere",
    ],
)
def test_nothing_but_one_question_is_answered(connection, engine, sql):
    with pytest.raises(UsageError, match=r"^SQL: "):
        list(ask(connection, sql).rows)
    with engine.connect() as checking:
        assert checking.execute(text("SELECT count(*) FROM files")).scalar() == 1


def test_an_answer_is_plain_values(connection):
    answer = ask(
        connection,
        'SELECT file, probability, finished_at, run AS "r%", count(*) OVER (), avg(run) OVER (), '
        "status LIKE 'scr%' AS is_screened, NULL AS nothing FROM results; -- said",
    )
    assert answer.columns[3] == "r%"
    (row,) = answer.rows
    assert row == ("0.jpg", 0.9, "2026-05-03 12:00:00.000000", 1, 1, 1, 1, None)


def test_bytes_are_bytes(connection):
    (row,) = ask(connection, "SELECT path FROM files").rows
    assert row[0].startswith(b"/site/work/")


def test_all_questions_are_about_the_same_moment(connection, shop):
    sql = "SELECT count(*) FROM results"
    before = list(ask(connection, sql).rows)
    shop.finish(shop.failed(shop.item()))
    assert list(ask(connection, sql).rows) == before


def test_a_server_killed_in_the_middle_of_an_answer_is_a_refusal(connection, engine):
    rows = ask(connection, "SELECT generate_series(1, 100000)").rows
    next(rows)
    with engine.connect() as other:
        pid = connection.info.backend_pid
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    with pytest.raises(StoreError, match="the database refused"):
        list(rows)
