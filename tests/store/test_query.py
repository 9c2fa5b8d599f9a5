"""`screen query`: every form, and questions in SQL that can change nothing."""

import csv
import io
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import screen_environment
from worker import parquet
from worker.cli.forms import csv_lines, json_lines, kinds, table_lines
from worker.errors import StoreError, UsageError
from worker.parquet import Kind, write_parquet
from worker.store.reviews import Review, add_review
from worker.store.sql import ask, reading

pytestmark = pytest.mark.databases

HOSTILE = "\x1b[2Jowned\u202e=1.jpg"
FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.fixture
def settings(site):
    """Here the database is that of a whole site."""
    return site.database


@pytest.fixture
def desk(shop, engine, noon, site):
    """A site with a positive film that a reader disagreed with, its copy, and a failure."""
    shop.finish(shop.screened(shop.item("film.jpg")))
    shop.finish(shop.duplicate(shop.item(HOSTILE)))
    shop.finish(shop.failed(shop.item("cut.jpg")))
    add_review(engine, Review(1, "disagree", "NORMAL", "old scar", "Dr. Ada", noon))
    return site


@pytest.fixture
def query(desk, screen):
    def run(*arguments, **options):
        return screen("query", *arguments, cwd=desk.root, **options)

    return run


# Forms


def test_every_form_has_the_same_fields_and_the_same_values(query, desk):
    records = json.loads(query("--json").stdout)
    rows = list(csv.DictReader(io.StringIO(query("--csv").stdout)))
    assert query("--parquet", "out.parquet").returncode == 0
    table = pq.read_table(desk.root / "out.parquet").to_pylist()
    assert len(records) == len(rows) == len(table) == 3
    for record, row, typed in zip(records, rows, table, strict=True):
        assert list(record) == list(row) == list(typed)
        assert list(record)[-5:] == [
            "verdict", "finding", "review_note", "reviewer", "reviewed_at",
        ]  # fmt: skip
        assert typed["finished_at"] == datetime.fromisoformat(record["finished_at"])
        assert typed["probability"] == record["probability"]
        assert row["verdict"] == (record["verdict"] or "")


def test_a_review_stands_with_each_file_of_its_content_and_with_no_failure(query):
    found = {record["file"]: record for record in json.loads(query("--json").stdout)}
    said = {file: (record["verdict"], record["finding"]) for file, record in found.items()}
    assert said == {
        "film.jpg": ("disagree", "NORMAL"),
        HOSTILE: ("disagree", "NORMAL"),
        "cut.jpg": (None, None),
    }


@pytest.mark.parametrize(
    ("option", "count"),
    [("--reviewed", 2), ("--not-reviewed", 0), ("--verdict=disagree", 2), ("--verdict=agree", 0)],
)
def test_reviews_are_filters(query, option, count):
    assert len(json.loads(query(option, "--json").stdout)) == count


def test_parquet_has_types(query, desk):
    query("--parquet", "out.parquet")
    schema = pq.read_schema(desk.root / "out.parquet")
    moment = pa.timestamp("us", tz="UTC")
    assert schema.field("finished_at").type == schema.field("reviewed_at").type == moment
    assert schema.field("probability").type == pa.float64()
    assert schema.field("run").type == pa.int64()
    assert schema.field("file").type == pa.string()


def test_a_parquet_file_is_not_open_to_the_world_and_leaves_nothing_beside_it(query, desk):
    before = {path.name for path in desk.root.iterdir()}
    query("--parquet", "out.parquet")
    assert (desk.root / "out.parquet").stat().st_mode & 0o777 == 0o640
    assert {path.name for path in desk.root.iterdir()} - before == {"out.parquet"}


@pytest.mark.databases("sqlite")
def test_an_answer_that_breaks_off_leaves_the_old_file(query, desk):
    (desk.root / "out.parquet").write_bytes(b"old")
    broken = "SELECT CASE file_id WHEN 3 THEN abs(-9223372036854775808) END AS x FROM results"
    ended = query("--sql", broken, "--parquet", "out.parquet")
    assert (ended.returncode, ended.stderr) == (2, "screen: SQL: integer overflow\n")
    assert (desk.root / "out.parquet").read_bytes() == b"old"
    assert not list(desk.root.glob(".screen-*"))


def test_parquet_is_written_group_by_group(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 10)
    read, written = [], []

    def rows():
        for number in range(35):
            read.append(number)
            written.append((tmp_path / "out").stat().st_size)
            yield (number,)

    with (tmp_path / "out").open("wb", buffering=0) as file:
        write_parquet(file, {"n": Kind.INTEGER}, rows())
    assert written[9] < written[10] < written[20] < written[30]
    assert pq.ParquetFile(tmp_path / "out").num_row_groups == 4
    assert pq.read_table(tmp_path / "out")["n"].to_pylist() == list(range(35))


def test_without_pyarrow_parquet_says_what_to_install(desk, screen, tmp_path):
    (tmp_path / "without" / "pyarrow").mkdir(parents=True)
    (tmp_path / "without" / "pyarrow" / "__init__.py").write_text("raise ImportError")
    environment = screen_environment()
    environment["PYTHONPATH"] = f"{tmp_path / 'without'}:{environment['PYTHONPATH']}"
    ended = subprocess.run(
        [sys.executable, "-m", "worker", "query", "--parquet", "out.parquet"],
        cwd=desk.root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "pip install 'cxr-screen[parquet]'" in ended.stderr
    assert not (desk.root / "out.parquet").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--parquet", "out.parquet", "--json"),
        ("--parquet", "none/out.parquet"),
        ("--sql", "SELECT 1", "--status", "failed"),
        ("--sql", "SELECT 1", "--not-reviewed"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(query, arguments):
    ended = query(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1


# SQL


def test_sql_is_answered_in_every_form(query, desk):
    sql = "SELECT file, probability, finished_at FROM results WHERE file = 'film.jpg'"
    moment = "2026-05-03 12:00:00.000000"
    assert json.loads(query("--sql", sql, "--json").stdout) == [
        {"file": "film.jpg", "probability": 0.9, "finished_at": moment}
    ]
    lines = query("--sql", sql, "--csv").stdout.splitlines()
    assert lines == ["file,probability,finished_at", f"film.jpg,0.9,{moment}"]
    heading, line = query("--sql", sql).stdout.splitlines()
    assert heading.split() == ["file", "probability", "finished_at"]
    assert line.split() == ["film.jpg", "0.9", *moment.split()]
    query("--sql", sql, "--parquet", "out.parquet")
    assert pq.read_table(desk.root / "out.parquet").to_pylist() == [
        {
            "file": "film.jpg",
            "probability": 0.9,
            "finished_at": datetime(2026, 5, 3, 12, tzinfo=UTC),
        }
    ]


def test_sql_is_read_from_stdin(query):
    assert query("--sql", "-", "--csv", input="SELECT 6 * 7 AS n").stdout == "n\n42\n"


@pytest.fixture
def connection(desk):
    with reading(desk.database) as connection:
        yield connection


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM files",
        "UPDATE screenings SET decision = 'NORMAL' RETURNING id",
        "INSERT INTO reviews VALUES (9, 1, 'agree', NULL, '', '', '')",
        "DROP VIEW results",
        "CREATE TEMP TABLE t (a)",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = OFF",
        "ATTACH 'other.db' AS other",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "REINDEX",
        "ANALYZE",
        "COMMIT",
        "SELECT load_extension('evil')",
        "SELECT writefile('evil', 'x')",
        "SELECT 1; DELETE FROM files",
        "EXPLAIN DELETE FROM files",
        "",
        "-- nothing",
        "SELECT nothing FROM nowhere",
    ],
)
def test_nothing_but_one_question_is_answered(connection, desk, tree, sql):
    before = tree(desk.root)
    with pytest.raises(UsageError, match=r"^SQL: "):
        list(ask(connection, sql).rows)
    assert tree(desk.root) == before


@pytest.mark.databases("sqlite")
def test_the_file_itself_is_open_for_reading_only(connection):
    """Should the authorizer ever miss something."""
    connection.set_authorizer(None)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM files")


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    "sql",
    [
        "WITH n AS (SELECT 1 AS i) SELECT i FROM n",
        "VALUES (1)",
        "SELECT value FROM json_each('[1]')",
        "SELECT count(*) OVER () FROM results LIMIT 1",
        "SELECT name FROM sqlite_schema WHERE name = 'results'",
        "SELECT 1; -- said",
        "EXPLAIN QUERY PLAN SELECT * FROM results",
    ],
)
def test_any_question_is(connection, sql):
    assert next(ask(connection, sql).rows)


def test_all_questions_are_about_the_same_moment(connection, shop):
    sql = "SELECT count(*) FROM results"
    before = list(ask(connection, sql).rows)
    shop.finish(shop.failed(shop.item()))
    assert list(ask(connection, sql).rows) == before


def test_the_worker_writes_while_an_answer_is_read(connection, shop):
    rows = ask(connection, "SELECT file FROM results").rows
    next(rows)
    shop.finish(shop.failed(shop.item()))
    assert len(list(rows)) == 2


@pytest.mark.databases("sqlite")
def test_bytes_that_are_no_text_do_not_end_an_answer(connection):
    assert list(ask(connection, "SELECT CAST(x'ff41' AS TEXT)").rows) == [(r"\xffA",)]


def test_a_file_that_is_no_database_is_an_error_of_the_database(settings, tmp_path):
    (tmp_path / "none.db").write_bytes(b"no database" * 1000)
    elsewhere = settings.model_copy(update={"url": f"sqlite:///{tmp_path}/none.db"})
    with pytest.raises(StoreError, match="the database refused"), reading(elsewhere) as connection:
        ask(connection, "SELECT * FROM files")


def test_a_database_that_refuses_at_once_is_closed_again(settings, tmp_path):
    file = tmp_path / "none.db"
    file.write_bytes(b"no database" * 1000)
    elsewhere = settings.model_copy(update={"url": f"sqlite:///{file}"})
    with pytest.raises(StoreError) as refused, reading(elsewhere):
        pass
    assert refused.tb  # what holds the frames, and with them a connection that was left open
    assert file.resolve() not in [each.resolve() for each in Path("/proc/self/fd").iterdir()]


def test_ctrl_c_stops_a_question_that_has_no_end(desk):
    asked = subprocess.Popen(
        [sys.executable, "-c", f"import worker.store.sql as s; ask = s.ask\n{_SIGNALS}"],
        cwd=desk.root, env=screen_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    with asked:
        try:
            assert asked.stdout.readline() == "asking\n"
            asked.send_signal(signal.SIGINT)
            assert (asked.wait(60), asked.stderr.read()) == (130, "\nscreen: stopped\n")
        finally:
            asked.kill()


_SIGNALS = f"""
import sys
def said(*given):
    print("asking", flush=True)
    return ask(*given)
s.ask = said
sys.argv = ["screen", "query", "--sql", {FOREVER!r}]
from worker.cli.main import main
main()
"""


# What people and programs see


def test_hostile_names_do_not_command_a_terminal(query):
    table = query("--sql", 'SELECT file AS "\x1b[2J" FROM results').stdout
    assert r"\x1b[2Jowned" in table
    assert "\x1b" not in table + query().stdout + query("--json").stdout


def test_csv_on_a_terminal_shows_escapes_and_in_a_file_is_as_it_was(desk, query):
    primary, secondary = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "worker", "query", "--csv"],
        cwd=desk.root, env=screen_environment(), stdout=secondary, check=True,
    )  # fmt: skip
    os.close(secondary)
    seen = os.read(primary, 65536)
    os.close(primary)
    assert b"\x1b" not in seen
    assert b"owned" in seen
    assert HOSTILE in query("--csv").stdout


def test_json_says_what_it_cannot_hold_in_its_own_way():
    found = json.loads("".join(json_lines(["a", "b"], [(b"\xff", float("inf"))])))
    assert found == [{"a": "ff", "b": None}]


def test_no_rows_are_an_empty_array_and_a_heading():
    assert "".join(json_lines(["a"], [])) == "[]\n"
    assert "".join(csv_lines(["a"], [])) == "a\r\n"
    assert list(table_lines(["a"], [], 5)) == ["a"]


def test_the_table_aligns_numbers_to_the_right_and_says_that_there_are_more():
    rows = [("a", 1, None), ("bbb", 12.5, None), ("c", 3, None)]
    assert list(table_lines(["name", "n", "x"], rows, 2)) == [
        "name     n  x",
        "a        1  –",
        "bbb   12.5  –",
        "… more than 2 rows: --limit, --json, --csv or --parquet give more",
    ]


def test_a_name_that_comes_twice_would_lose_a_column():
    for form in (json_lines, kinds):
        with pytest.raises(UsageError, match="2 columns are named 'a'"):
            list(form(["a", "b", "a"], []))


def test_types_of_a_question_s_columns_come_from_all_rows():
    moment = "2026-05-03 12:00:00.000000"
    rows = [
        (None, 1, moment, moment, b"", None),
        ("a", 2.5, None, "today", None, None),
    ]
    assert list(kinds("abcdef", rows).values()) == [
        Kind.TEXT, Kind.NUMBER, Kind.MOMENT, Kind.TEXT, Kind.BYTES, Kind.TEXT,
    ]  # fmt: skip


def test_a_column_of_numbers_and_text_must_be_cast():
    with pytest.raises(UsageError, match="column 'a' holds int64 and string: CAST it"):
        kinds(["a"], [(1,), ("one",)])
