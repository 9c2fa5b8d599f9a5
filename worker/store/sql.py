"""One question in SQL, as people type it: it can read, and do nothing else.

The file is opened for reading only, and SQLite asks an authorizer about everything that a statement
would do (sqlite.org/c3ref/set_authorizer.html). So nothing is written or attached, no pragma is
set, no extension loaded; the driver takes one statement at a time.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from worker.config import Database
from worker.errors import UsageError
from worker.store.refusals import refusal

Value = str | int | float | bytes | None

_ALLOWED = (
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
)
_REFUSALS = (  # of the database, whatever was asked
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FULL, sqlite3.SQLITE_PROTOCOL),
)
_PRIMARY = 0xFF  # of an extended result code (sqlite.org/rescode.html)
_STEPS = 10_000  # of SQLite's machine between two looks for Ctrl-C: some tenths of a millisecond


@dataclass(frozen=True)
class Answer:
    """What a statement gives: the names of its columns, and its rows while they are read."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Value, ...]]


@contextmanager
def reading(settings: Database) -> Iterator[sqlite3.Connection]:
    """A connection that can only read; all it is asked is about the same moment.

    Raises StoreError when the database is missing or refuses.
    """
    file = Path(str(make_url(settings.url).database)).absolute()
    with _explained(), closing(_opened(file, settings.busy_timeout_s)) as connection:
        _prepare(connection)
        yield connection


def _opened(file: Path, timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{file.as_uri()}?mode=ro", uri=True, timeout=timeout_s, isolation_level=None
    )


def _prepare(connection: sqlite3.Connection) -> None:
    connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
    connection.execute("SELECT * FROM json_each('[]'), json_tree('[]')")  # made once, by a "write"
    connection.execute("BEGIN")
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: 0, _STEPS)  # Python sees to its signals there


def _authorize(action: int, *_about: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def ask(connection: sqlite3.Connection, sql: str) -> Answer:
    """Ask one SELECT. Raises UsageError for any other statement and for wrong SQL.

    Errors may come as late as from the rows; Ctrl-C raises KeyboardInterrupt from there too.
    """
    with _explained():
        cursor = connection.execute(sql)
    if cursor.description is None:
        raise UsageError("SQL: there is no statement to answer")
    return Answer(tuple(column[0] for column in cursor.description), _rows(cursor))


def _rows(cursor: sqlite3.Cursor) -> Iterator[tuple[Value, ...]]:
    with _explained():
        yield from iter(cursor.fetchone, None)  # not the cursor, which this would close too late


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
        if code == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from error
        if code in _REFUSALS:
            raise refusal(error) from error
        reads = "; only reading is possible here: one SELECT" if code == sqlite3.SQLITE_AUTH else ""
        raise UsageError(f"SQL: {error}{reads}") from error
