"""A site whose database is on a server: every command, and the way there and back."""

import json
import re
import subprocess
import sys
from datetime import timedelta

import pytest
from pyarrow import parquet
from sqlalchemy import text

from tests.conftest import database_section
from tests.postgres import server_programs
from worker import doctor
from worker.cli.main import main
from worker.config import Database, load_config
from worker.errors import CorruptFile, ShareGone, SiteBusy, StoreError, UsageError
from worker.marks import MARK
from worker.restore import copy_to, settle
from worker.site import alone, hold_site
from worker.store import transfer
from worker.store.database import integrity_problems, open_database, revisions
from worker.store.mark import add_site_mark
from worker.store.queries import result_fields, results
from worker.store.tables import Base
from worker.store.work import begin_recovery
from worker.store.workers import end_worker, register_worker

pytestmark = pytest.mark.databases


@pytest.fixture
def screened(desk):
    """A site with films that were screened, one twice, and one that failed."""
    desk.screener.errors[b"bad"] = [CorruptFile("broken")]
    desk.drop(a=b"1", b=b"2", again=b"1", d=b"bad")
    desk.work()
    return desk


@pytest.fixture
def elsewhere(database_kind, tmp_path, postgres):
    """An empty database of the other kind."""
    if database_kind == "postgresql":
        yield Database(url=f"sqlite:///{tmp_path}/elsewhere.db")
        return
    with postgres.database() as url:
        yield Database(url=url)


def answers(settings):
    """Everything that stands in a database, as our program reads it."""
    engine = open_database(settings)
    try:
        return [result_fields(each) for each in results(engine)]
    finally:
        engine.dispose()


def rows(settings):
    engine = open_database(settings, create=True)
    try:
        if revisions(engine)[0] is None:
            return 0
        with engine.connect() as connection:
            tables = Base.metadata.tables
            return sum(connection.scalar(text(f"SELECT count(*) FROM {t}")) for t in tables)
    finally:
        engine.dispose()


def moved(desk, settings):
    """The site with its database elsewhere."""
    file = desk.config.root / "config.toml"
    before = database_section(desk.config)
    file.write_text(file.read_text().replace(before, f'[database]\nurl = "{settings.url}"\n'))
    desk.config = load_config(file)


def test_a_copy_says_what_the_database_says(screened, elsewhere):
    before = answers(screened.config.database)
    carried = copy_to(screened.config, elsewhere)
    assert {table.table for table in carried} == set(Base.metadata.tables)
    assert sum(table.rows for table in carried) == rows(screened.config.database)
    assert answers(elsewhere) == before == answers(screened.config.database)


def test_the_site_goes_on_in_the_copy(screened, elsewhere):
    """Numbers of new rows begin after those that were copied."""
    before = answers(screened.config.database)
    copy_to(screened.config, elsewhere)
    moved(screened, elsewhere)
    screened.drop(new=b"3", copy=b"2")
    screened.work()
    after = answers(elsewhere)
    assert after[2:] == before
    assert {each["file"]: each["status"] for each in after[:2]} == {
        "new.jpg": "screened",
        "copy.jpg": "duplicate",
    }


@pytest.mark.databases("postgresql")
def test_a_film_that_was_leased_is_not_stuck_in_the_file_it_is_copied_to(screened, elsewhere):
    held = "state = 'attempted', finished_at = NULL, lease_token = 7, lease_until = finished_at"
    with screened.database() as engine, engine.begin() as connection:
        connection.execute(text(f"UPDATE files SET {held} WHERE file = 'b.jpg'"))
    copy_to(screened.config, elsewhere)
    engine = open_database(elsewhere)
    assert begin_recovery(engine, crashed=False) == 1
    with engine.connect() as connection:
        asked = text("SELECT state, lease_until FROM files WHERE file = 'b.jpg'")
        assert connection.execute(asked).all() == [("waiting", None)]
    engine.dispose()


def test_a_database_with_rows_is_not_written_over(screened, elsewhere):
    copy_to(screened.config, elsewhere)
    with pytest.raises(UsageError, match="name a new, empty database"):
        copy_to(screened.config, elsewhere)
    with pytest.raises(UsageError, match="name a new, empty database"):
        copy_to(screened.config, screened.config.database)


@pytest.mark.parametrize("table", ["site", "screenings", "result_lists"])
def test_a_copy_that_is_stopped_leaves_nothing(screened, elsewhere, monkeypatch, table):
    """In the middle of any table: of what was copied before it, nothing is there either."""

    def told(rows, what, total, tell):
        for row in rows:
            if what == f"checking {table}":
                raise KeyboardInterrupt
            yield row
        if what == f"copying {table}" and not total:
            raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "_told", told)
    with pytest.raises(KeyboardInterrupt):
        copy_to(screened.config, elsewhere)
    assert rows(elsewhere) == 0


def test_a_copy_that_came_out_different_is_refused(screened, elsewhere, monkeypatch):
    """Should the other database ever keep something else than it was given."""
    rows_of = transfer._rows
    asked = []

    def altered(connection, table):
        asked.append(table.name)
        for row in rows_of(connection, table):
            again = asked.count("films") == 2 and table.name == "films"
            yield [None, *row[1:]] if again else row

    monkeypatch.setattr(transfer, "_rows", altered)
    with pytest.raises(StoreError, match=r"films came out different: 2 rows .* nothing was copied"):
        copy_to(screened.config, elsewhere)
    monkeypatch.undo()
    assert rows(elsewhere) == 0


def test_nothing_is_copied_under_a_worker(screened, elsewhere):
    with alone(screened.config), pytest.raises(SiteBusy):
        copy_to(screened.config, elsewhere)


def test_a_film_restored_into_the_database_is_settled(screened):
    """The server's tools bring back rows of films that have ended since."""
    with screened.database() as engine, engine.begin() as connection:
        connection.execute(
            text("UPDATE files SET state = 'waiting', finished_at = NULL WHERE file = 'b.jpg'")
        )
    assert settle(screened.config) == 1
    assert settle(screened.config) == 0
    with screened.database() as engine:
        assert integrity_problems(engine) == []


def test_films_of_another_site_are_not_forgotten(screened):
    """They are in its work/, which only its host sees."""
    with screened.database() as engine:
        add_site_mark(engine, "other", screened.now + timedelta(days=365))
        waits = "UPDATE files SET state = 'waiting', finished_at = NULL"
        with engine.begin() as connection:
            connection.execute(text(f"{waits} WHERE file = 'a.jpg'"))
            connection.execute(text(f"{waits}, site_mark = 'other' WHERE file = 'b.jpg'"))
    assert settle(screened.config) == 1
    assert screened.rows("SELECT file FROM files WHERE state = 'waiting'") == [("b.jpg",)]


@pytest.mark.databases("postgresql")
def test_nothing_is_settled_while_a_worker_of_any_host_lives(screened):
    with screened.database() as engine:
        worker = register_worker(engine, "another host", 7)
        with pytest.raises(SiteBusy, match="stop those of all hosts"):
            settle(screened.config)
        end_worker(engine, worker)
    assert settle(screened.config) == 0


def test_only_a_site_that_the_restored_database_knows_is_settled(screened):
    """A backup from before the second site came knows nothing of what it has in work/."""
    with screened.database() as engine, engine.begin() as connection:
        connection.execute(
            text("UPDATE files SET state = 'waiting', finished_at = NULL WHERE file = 'b.jpg'")
        )
    (screened.site.work / MARK).write_text("other\n")
    with pytest.raises(ShareGone, match=r"site\.work"):
        settle(screened.config)
    assert screened.rows("SELECT file FROM files WHERE state = 'waiting'") == [("b.jpg",)]


@pytest.mark.databases("postgresql")
def test_the_machines_own_files_lie_in_a_folder_beside_the_configuration(quick_site):
    with hold_site(quick_site):
        pass
    assert quick_site.local_state == quick_site.root / "state" / "screen"
    assert quick_site.local_state.parent.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def said(screened, monkeypatch, capsys):
    """Run a command of the program, here: gives what it says; it must exit with `code`."""
    monkeypatch.chdir(screened.config.root)

    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["screen", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == code, (words, out, err)
        return out + err

    return run


def test_every_command_works_on_either(said, tmp_path):
    assert said("db", "upgrade").startswith("schema 0")
    assert len(json.loads(said("query", "--json"))) == 4
    sql = "SELECT decision, probability, finished_at FROM results"
    assert len(json.loads(said("query", "--json", "--sql", sql))) == 4
    said("query", "--parquet", tmp_path / "all.parquet")
    said("query", "--sql", sql, "--parquet", tmp_path / "some.parquet")
    kinds = [parquet.read_schema(tmp_path / f"{name}.parquet") for name in ("all", "some")]
    assert {str(kind.field("finished_at").type) for kind in kinds} == {"timestamp[us, tz=UTC]"}
    assert "one SELECT" in said("query", "--sql", "DELETE FROM files", code=2)
    assert "none is running" in said("status")
    assert "no worker has run here" in said("health", code=1)
    assert "sound" in said("db", "check")
    said("report")
    assert "corrupt-file" in said("failed", "list")
    said("prune", "--dry-run")


@pytest.mark.databases("postgresql")
def test_a_server_is_backed_up_by_its_own_tools_and_the_program_says_how(said, tmp_path):
    refused = said("db", "backup", tmp_path / "x.dump", code=2)
    assert f"pg_dump --format=custom --file={tmp_path}/x.dump 'postgresql://screen@/" in refused
    assert "pg_restore --no-owner" in said("db", "restore", tmp_path / "x.dump", code=2)
    assert "now render the reports again" in said("db", "restore", "--restored")


@pytest.mark.databases("postgresql")
def test_a_dump_put_back_by_the_servers_tools_is_the_database_again(
    said, screened, postgres, tmp_path
):
    """As docs/DATABASE.md says it."""
    before = said("query", "--json")
    url, dump = screened.config.database.tools_url, tmp_path / "x.dump"
    tools = server_programs()
    subprocess.run([tools / "pg_dump", "--format=custom", f"--file={dump}", url], check=True)
    screened.drop(later=b"3")
    screened.work()
    with postgres.database() as again:
        words = ["--no-owner", "--exit-on-error", f"--dbname={again}", dump]
        subprocess.run([tools / "pg_restore", *words], check=True)
        moved(screened, Database(url=again))
        assert "screen db unknown --feed-again" in said("db", "restore", "--restored")
        assert said("query", "--json") == before
        assert "1 films are back" in said("db", "unknown", "--feed-again")
        screened.work()
        assert len(json.loads(said("query", "--json"))) == 5


@pytest.mark.databases("sqlite")
def test_the_command_copies_and_says_what_to_write(said, elsewhere):
    copied = said("db", "copy", "--to", elsewhere.url)
    assert re.search(r"^files +4 rows  SHA-256 [0-9a-f]{16}, the same$", copied, re.MULTILINE)
    assert copied.endswith(f'url = "{elsewhere.tools_url}"\n')


@pytest.mark.databases("sqlite")
def test_a_password_is_not_taken_from_the_command_line(said):
    url = "postgresql://screen:secret@/screen?host=/nowhere"
    refused = said("db", "copy", "--to", url, code=2)
    assert "PGPASSWORD or ~/.pgpass" in refused
    assert "secret" not in refused


@pytest.mark.databases("postgresql")
def test_doctor_knows_the_server_and_a_password_that_others_may_read(quick_site):
    with hold_site(quick_site):
        pass
    found = doctor._server(quick_site)
    assert found.found.startswith("PostgreSQL 1")
    assert "fsync = on" in found.mend  # of the tests' own server
    url = quick_site.database.url.replace("screen@", "screen:secret@")
    file = quick_site.root / "config.toml"
    file.write_text(f'[database]\nurl = "{url}"\n')
    file.chmod(0o640)
    config = load_config(file)
    assert "chmod 0600" in doctor._password(config).mend
    file.chmod(0o600)
    assert doctor._password(config).ok
    assert "secret" not in doctor._database(config).found
