"""SQLite: one file on a local disk, and one writer at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from worker.config import Database
from worker.errors import NetworkFilesystem, StoreError
from worker.filesystem import is_network
from worker.progress import Tell

_READERS = 40  # at once: threads of the web page; connections are made as they are needed
_STEPS_TOLD = 100_000  # of SQLite's virtual machine: some milliseconds


def open_file(url: URL, settings: Database, *, create: bool, read_only: bool) -> Engine:
    """Engine for a file: WAL with full synchronisation, a transaction of a writer locks at once."""
    _check_place(Path(str(url.database)), create)
    engine = create_engine(
        url,
        connect_args={"timeout": settings.busy_timeout_s},
        hide_parameters=True,
        max_overflow=_READERS if read_only else 10,
    )
    event.listen(engine, "connect", _set_read_only_pragmas if read_only else _set_pragmas)
    event.listen(engine, "begin", _begin_deferred if read_only else _begin_immediate)
    return engine


def _check_place(file: Path, create: bool) -> None:
    if is_network(file.parent):
        raise NetworkFilesystem(
            f"{file} lies on a network filesystem, where SQLite's locks cannot be trusted: "
            "set database.url to a file on a local disk"
        )
    if create and not file.exists():
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    if not file.exists():
        raise StoreError(
            f"there is no database {file}: put a backup in its place with 'screen db restore "
            "FILE', or make an empty one with 'screen db upgrade'; films are where they were"
        )


def _set_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _set_read_only_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only=ON")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@contextmanager
def unchecked(connection: Connection) -> Iterator[None]:
    """Leave foreign keys alone while tables are made anew (sqlite.org/lang_altertable.html).

    Inside a transaction SQLite does not listen to this.
    """
    driver = connection.connection.cursor()
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")
        driver.close()


def problems_of_file(engine: Engine, tell: Tell) -> list[str]:
    """What SQLite's own checks find wrong with the file; empty when all is well."""
    with engine.connect() as connection, _told(connection, tell):
        found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check")]
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    problems = [line for line in found if line != "ok"]
    return problems + [f"row {row[1]} of {row[0]} points at nothing in {row[2]}" for row in orphans]


@contextmanager
def _told(connection: Connection, tell: Tell) -> Iterator[None]:
    """Say now and then that SQLite is at work. Raises KeyboardInterrupt when it is stopped.

    The driver only knows that its handler failed: by Ctrl-C, for nothing else ends there.
    """
    driver: Any = connection.connection.driver_connection
    steps = count()
    what = "checking the database"
    driver.set_progress_handler(lambda: tell(what, next(steps), 0, ""), _STEPS_TOLD)
    try:
        yield
    except (StoreError, OperationalError) as error:
        if getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            raise KeyboardInterrupt from error
        raise
    finally:
        driver.set_progress_handler(None, 0)
