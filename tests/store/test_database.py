"""Where the database may lie, who may write, and what a refusal looks like."""

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from worker import filesystem
from worker.config import Database
from worker.errors import ConfigError, NetworkFilesystem, StoreError
from worker.filesystem import filesystem_type
from worker.store.counts import counts_by_decision
from worker.store.database import integrity_problems, open_database, require_current

pytestmark = pytest.mark.databases


@pytest.fixture
def file(settings):
    return Path(settings.url.removeprefix("sqlite:///"))


@pytest.fixture
def reader(engine, settings):
    reader = open_database(settings, read_only=True)
    yield reader
    reader.dispose()


def test_a_reader_cannot_write(reader):
    with pytest.raises(StoreError, match=r"read-?only"), reader.begin() as connection:
        connection.execute(text("DELETE FROM films"))


def test_a_reader_in_the_middle_of_its_transaction_does_not_stop_the_writer(reader, engine):
    with reader.connect() as reading:
        reading.execute(text("SELECT count(*) FROM films")).scalar()
        with engine.begin() as writing:
            writing.execute(text("DELETE FROM films"))


def test_a_writer_in_the_middle_of_its_transaction_does_not_stop_a_reader(reader, engine):
    with engine.begin() as writing:
        writing.execute(text("DELETE FROM films"))
        assert counts_by_decision(reader)["PNEUMONIA"] == 0


@pytest.mark.databases("sqlite")
def test_a_locked_database_is_a_store_error_that_says_so(engine, file):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"), engine.begin():
        pass
    other.execute("ROLLBACK")
    with engine.begin():
        pass
    other.close()


@pytest.mark.databases("sqlite")
def test_a_file_that_is_no_database_is_a_store_error(settings, file):
    file.write_bytes(b"not a database, but long enough to have a header " * 10)
    engine = open_database(settings)
    with pytest.raises(StoreError, match="not a database"):
        require_current(engine)


@pytest.mark.databases("sqlite")
def test_a_damaged_database_is_a_store_error(engine, settings, file):
    engine.dispose()
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(os.urandom(file.stat().st_size - 4096))
    with pytest.raises(StoreError, match="malformed"):
        counts_by_decision(open_database(settings))


def test_breaking_a_constraint_is_an_error_of_the_program_not_a_refusal(engine):
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text("INSERT INTO alembic_version VALUES (NULL)"))


def test_a_sound_database_has_no_problems(engine):
    assert integrity_problems(engine) == []


@pytest.mark.databases("sqlite")
def test_a_row_that_points_at_nothing_is_a_problem(engine, file):
    with sqlite3.connect(file) as connection:
        values = "(1, 77, 'reason', '', '2026-01-01', 77)"
        columns = "(id, file_id, reason, message, failed_at, run_id)"
        connection.execute(f"INSERT INTO failures {columns} VALUES {values}")
    connection.close()
    assert "row 1 of failures points at nothing in files" in integrity_problems(engine)


def test_foreign_keys_hold(engine):
    values = "(1, 77, 'reason', '', '2026-01-01', 77)"
    columns = "(id, file_id, reason, message, failed_at, run_id)"
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text(f"INSERT INTO failures {columns} VALUES {values}"))


@pytest.mark.databases("sqlite")
def test_results_survive_a_power_loss(engine):
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL


@pytest.mark.databases("sqlite")
def test_only_the_owner_can_read_the_database(engine, file):
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM films"))
        for path in file.parent.glob("screen.db*"):
            assert path.stat().st_mode & 0o777 == 0o600, path.name


@pytest.mark.databases("sqlite")
def test_a_missing_database_is_not_made_by_reading(settings, file):
    with pytest.raises(StoreError, match="there is no database"):
        open_database(settings, read_only=True)
    assert not file.exists()


@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://host/screen", "sqlite://", "screen.db", "mysql://x/y"]
)
def test_other_databases_are_errors_of_the_configuration(url):
    with pytest.raises(ConfigError, match=r"database\.url"):
        open_database(Database(url=url))


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /mnt/share rw shared:2 - {kind} server:/export rw
31 30 8:2 / /mnt/share/local rw shared:3 - xfs /dev/sdb1 rw
32 22 0:32 / /mnt/with\\040space rw shared:4 - nfs4 server:/other rw
"""


@pytest.fixture
def mounts(tmp_path):
    """A mountinfo(5) with a share of this kind below /mnt/share."""

    def write(kind="cifs"):
        (tmp_path / "mountinfo").write_text(MOUNTS.format(kind=kind))
        return tmp_path / "mountinfo"

    return write


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/share/site/screen.db", "cifs"),
        ("/mnt/share/local/screen.db", "xfs"),
        ("/mnt/shared/screen.db", "ext4"),
        ("/mnt/with space/screen.db", "nfs4"),
        ("/home/screen.db", "ext4"),
    ],
)
def test_the_longest_mount_point_above_a_path_names_its_filesystem(mounts, path, kind):
    assert filesystem_type(Path(path), mounts()) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"])
def test_a_database_on_a_share_is_refused(mounts, monkeypatch, kind):
    share = mounts(kind)
    monkeypatch.setattr(
        filesystem, "filesystem_type", lambda path: filesystem_type(path, mounts=share)
    )
    with pytest.raises(NetworkFilesystem, match=r"database\.url"):
        open_database(Database(url="sqlite:////mnt/share/screen.db"), create=True)


def test_without_mountinfo_nothing_is_known_and_nothing_refused(tmp_path):
    assert filesystem_type(tmp_path, tmp_path / "none") == ""
