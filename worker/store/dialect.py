"""What SQLite and PostgreSQL say in different words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from sqlalchemy import Connection, Engine, Integer, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from worker.store.tables import Base

_LOCKS = 0x5343524E  # "SCRN": our advisory locks, beside those of other programs
COUNTED = {"preserve_rowcount": True}  # option of an INSERT whose `rowcount` is asked for
_SUBJECTS = {"schema": 1, "site": 2}


def insert_into(connection: Connection, table: type[Base]) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if is_server(connection) else sqlite.insert(table)


def is_server(bind: Connection | Engine) -> bool:
    """Whether this is PostgreSQL: others write at the same time."""
    return bind.dialect.name == "postgresql"


def one_at_a_time(connection: Connection, subject: Literal["schema", "site"]) -> None:
    """Wait until no other transaction is at this; held to the end of the transaction.

    Any write transaction of SQLite is alone anyway.
    """
    if is_server(connection):
        lock = text("SELECT pg_advisory_xact_lock(:locks, :subject)")
        connection.execute(lock, {"locks": _LOCKS, "subject": _SUBJECTS[subject]})


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection whose questions are all about the same moment, as SQLite's always are."""
    with engine.connect() as connection:
        if is_server(engine):
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


class whole(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """The whole part of a number: what lies behind the point is cut off."""

    type = Integer()
    inherit_cache = True


@compiles(whole, "sqlite")
def _cut_off(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(whole, "postgresql")
def _truncate(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(trunc({compiler.process(element.clauses, **options)}) AS INTEGER)"
