"""Open the database: engine, pragmas, migrations, and where SQLite may live."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError

from worker.assets import asset
from worker.config import Database
from worker.errors import ConfigError, NetworkFilesystem, StoreError
from worker.filesystem import is_network
from worker.progress import Tell, nobody

_OTHERWISE = "See 'screen db check'; what it held before it holds still"
_DAMAGED = "Stop the worker, keep the file, and put a backup in its place: 'screen db restore FILE'"
_HINTS = {
    "SQLITE_BUSY": "Another program holds it: close that, then run this again; no film is lost",
    "SQLITE_FULL": "Make room on its disk, then run this again; what it held before it holds still",
    "SQLITE_READONLY": "This account may not write it: check the rights of the file and its folder",
    "SQLITE_CANTOPEN": "Check that file and folder are there, and the rights of this account",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
}
_READERS = 40  # at once: threads of the web page; connections are made as they are needed
_STEPS_TOLD = 100_000  # of SQLite's virtual machine: some milliseconds


def open_database(settings: Database, *, create: bool = False, read_only: bool = False) -> Engine:
    """Engine for the configured database, not yet migrated.

    SQLite runs in WAL with full synchronisation; each transaction takes the write lock at its
    start, unless the engine is `read_only`. Raises StoreError when the file is missing (unless
    `create`), NetworkFilesystem when it lies on a share, ConfigError when the URL is wrong.
    """
    try:
        url = make_url(settings.url)
    except ArgumentError as error:
        raise ConfigError(f"database.url = '{settings.url}' is no SQLAlchemy URL") from error
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ConfigError(
            f"database.url = '{settings.url}': only sqlite:///FILE is supported so far"
        )
    file = Path(url.database)
    _check_place(file, create)
    engine = create_engine(
        url,
        connect_args={"timeout": settings.busy_timeout_s},
        hide_parameters=True,
        max_overflow=_READERS if read_only else 10,
    )
    event.listen(engine, "connect", _set_read_only_pragmas if read_only else _set_pragmas)
    event.listen(engine, "handle_error", _explain_error)
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


def _explain_error(context: ExceptionContext) -> None:
    """Turn what the database refuses (locked, full, gone, damaged) into a StoreError.

    Other subclasses of DatabaseError, such as a broken constraint, are errors of the program.
    """
    error = context.sqlalchemy_exception
    if isinstance(error, OperationalError) or type(error) is DatabaseError:
        raise refusal(context.original_exception) from context.original_exception


def refusal(error: BaseException | None) -> StoreError:
    """The database refused, whatever it was asked: what it said, and what to do."""
    name = getattr(error, "sqlite_errorname", "")
    hint = next((hint for kind, hint in _HINTS.items() if name.startswith(kind)), _OTHERWISE)
    return StoreError(f"the database refused: {error}. {hint}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest schema, in one transaction.

    Raises StoreError when it is locked, or newer than this program.
    """
    try:
        with engine.connect() as connection, _unchecked(connection), connection.begin():
            command.upgrade(_alembic(connection), "head")
    except CommandError as error:
        raise StoreError(
            f"the database {engine.url.database} was made by another program: {error}. Install the "
            "version of Screen that made it"
        ) from error


@contextmanager
def _unchecked(connection: Connection) -> Iterator[None]:
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


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """(found in the database, expected by this program); `None` for an empty database."""
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return found, ScriptDirectory.from_config(_alembic(None)).get_current_head()


def require_current(engine: Engine) -> None:
    """Raise StoreError when the schema is not the one this program expects."""
    found, expected = revisions(engine)
    if found != expected:
        raise StoreError(
            f"the database has schema {found or 'none'}, this program expects {expected}: "
            "run 'screen db upgrade', or install the program that made it"
        )


def integrity_problems(engine: Engine, tell: Tell = nobody) -> list[str]:
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


def _alembic(connection: Connection | None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(asset("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
