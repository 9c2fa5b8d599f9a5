"""One question in SQL to PostgreSQL: it can read, and do nothing else.

It is asked as the cursor of a read-only transaction, by the protocol that takes one statement: the
server itself refuses a second one, one that is no SELECT or VALUES, and whatever would write. The
transaction cannot be made to write any more, for it has read already. What a role may read, and
call, is the server's to say: docs/DATABASE.md recommends one with SELECT alone.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from worker.config import Database
from worker.errors import UsageError
from worker.store.answer import Answer, Value
from worker.store.postgres import connect, require_driver
from worker.store.refusals import refusal

if TYPE_CHECKING:
    import psycopg

_AT_ONCE = 1000  # rows that the server sends together
_REFUSALS = ("08", "25P03", "40", "53", "55P03", "57", "58", "XX")  # whatever was asked
_NO_QUESTION = ("0A000", "25006", "42601", "42P11")  # two statements, or one that would write


@contextmanager
def reading_server(settings: Database) -> Iterator["psycopg.Connection"]:
    """A connection that can only read; all it is asked is about the same moment."""
    with _explained():
        connection = connect(settings)
    with closing(connection):
        with _explained():
            connection.read_only = True
            connection.isolation_level = require_driver().IsolationLevel.REPEATABLE_READ
            connection.execute("SELECT 1")  # from here on the transaction is what it is
        yield connection


def ask_server(connection: "psycopg.Connection", sql: str) -> Answer:
    """Ask one SELECT. Raises UsageError for any other statement and for wrong SQL."""
    cursor = connection.cursor("question")
    cursor.itersize = _AT_ONCE
    with _explained():
        cursor.execute(sql.encode())
    columns = tuple(column.name for column in cursor.description or ())
    return Answer(columns, _rows(cursor))


def _rows(cursor: "psycopg.ServerCursor[tuple[Any, ...]]") -> Iterator[tuple[Value, ...]]:
    with _explained(), closing(cursor):
        for row in cursor:
            yield tuple(map(_plain, row))


def _plain(value: Any) -> Value:
    """A value as SQLite has it: moments as text, numbers without a type of their own."""
    if value is None or isinstance(value, str | float | bytes):
        return value
    if isinstance(value, int):
        return int(value)  # also a truth value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    return str(value)


@contextmanager
def _explained() -> Iterator[None]:
    psycopg = require_driver()
    try:
        yield
    except psycopg.Error as error:
        code = error.sqlstate or ""
        if not code or code.startswith(_REFUSALS):
            raise refusal(error) from error
        reads = "; only reading is possible here: one SELECT" if code in _NO_QUESTION else ""
        raise UsageError(f"SQL: {error.diag.message_primary}{reads}") from error
