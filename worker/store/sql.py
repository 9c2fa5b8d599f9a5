"""One question in SQL, as people type it: it can read, and do nothing else.

A file of SQLite is opened for reading only, and SQLite asks an authorizer about everything that a
statement would do (sqlite.org/c3ref/set_authorizer.html). So nothing is written or attached, no
pragma is set, no extension loaded; the driver takes one statement at a time. A server is asked by
`postgres_sql`.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Union

from sqlalchemy.engine import make_url

from worker.config import Database
from worker.errors import UsageError
from worker.store.answer import Answer, Value
from worker.store.postgres_sql import ask_server, reading_server
from worker.store.refusals import refusal

if TYPE_CHECKING:
    import psycopg

Asked = Union[sqlite3.Connection, "psycopg.Connection"]

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


@contextmanager
def reading(settings: Database) -> Iterator[Asked]:
    """A connection that can only read; all it is asked is about the same moment.

    Raises StoreError when the database is missing or refuses.
    """
    reader = _reading_file if settings.is_file else reading_server
    with reader(settings) as connection:
        yield connection


def ask(connection: Asked, sql: str) -> Answer:
    """Ask one SELECT. Raises UsageError for any other statement and for wrong SQL.

    Errors may come as late as from the rows; Ctrl-C raises KeyboardInterrupt from there too.
    """
    if isinstance(connection, sqlite3.Connection):
        return _ask_file(connection, sql)
    return ask_server(connection, sql)


@contextmanager
def _reading_file(settings: Database) -> Iterator[sqlite3.Connection]:
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


def _ask_file(connection: sqlite3.Connection, sql: str) -> Answer:
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
