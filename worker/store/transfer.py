"""Carry a whole database over to another one, of SQLite or PostgreSQL: all of it, or nothing."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    TypeDecorator,
    func,
    select,
    text,
    update,
)
from sqlalchemy.types import TypeEngine

from worker.errors import StoreError, UsageError
from worker.progress import Tell, nobody
from worker.store.dialect import is_server
from worker.store.tables import Base, File

_NO_LEASES = (
    update(File)
    .where(File.state.in_(("waiting", "attempted")), File.lease_token.is_not(None))
    .values(lease_token=None, lease_until=None)
)
_AT_ONCE = 1000  # rows in memory
_NUL = "\N{REPLACEMENT CHARACTER}"  # as `tables.Words` has it
_SEQUENCE = text("SELECT pg_get_serial_sequence(:table, :column)")
_GO_ON = text("SELECT setval(CAST(:sequence AS regclass), :newest)")
_Row = Sequence[Any]


@dataclass(frozen=True)
class Carried:
    """A table as it is in both databases: its rows, and the SHA-256 of all that they say."""

    table: str
    rows: int
    sha256: str


def carry_over(source: Engine, target: Engine, tell: Tell = nobody) -> list[Carried]:
    """Copy every row of a current database into one that is migrated and empty.

    One transaction on each side: nothing changes in the source meanwhile, and the target has all or
    nothing. Each table is read again from the target, its count and checksum compared. After that a
    file drops the leases, which no worker holds there: `begin_recovery` finds what was in hand.
    Raises UsageError when the target holds anything, StoreError when a table came out different.
    """
    tables = [_plain(table) for table in Base.metadata.sorted_tables]
    with source.begin() as reading, target.begin() as writing:
        if is_server(source):
            reading.execute(text(f"LOCK TABLE {', '.join(t.name for t in tables)} IN SHARE MODE"))
        _require_empty(writing, tables)
        carried = [_carry(reading, writing, table, tell) for table in tables]
        if not is_server(target):
            writing.execute(_NO_LEASES)
        return carried


def _plain(table: Table) -> Table:
    """A table whose values are those of the database, untouched by what they mean to us."""
    return Table(
        table.name,
        MetaData(),
        *(Column(c.name, _stored(c.type), primary_key=c.primary_key) for c in table.columns),
    )


def _stored(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def _require_empty(connection: Connection, tables: list[Table]) -> None:
    for table in tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise UsageError(f"there are rows in {table.name} already: name a new, empty database")


def _carry(reading: Connection, writing: Connection, table: Table, tell: Tell) -> Carried:
    total = reading.scalar(select(func.count()).select_from(table)) or 0
    source, target = _Sum(), _Sum()
    rows = _told(_rows(reading, table), f"copying {table.name}", total, tell)
    (_into_server if is_server(writing) else _into_file)(writing, table, source.over(rows))
    for _ in target.over(_told(_rows(writing, table), f"checking {table.name}", total, tell)):
        pass
    if (source.rows, source.sha256) != (target.rows, target.sha256):
        raise StoreError(
            f"{table.name} came out different: {source.rows} rows {source.sha256[:16]}, then "
            f"{target.rows} rows {target.sha256[:16]}; nothing was copied"
        )
    return Carried(table.name, target.rows, target.sha256)


def _rows(connection: Connection, table: Table) -> Iterator[_Row]:
    """All rows in the order of their keys, never all at once."""
    asked = select(table).order_by(*table.primary_key.columns)
    with connection.execution_options(yield_per=_AT_ONCE).execute(asked) as found:
        for row in found:
            yield [value.replace("\0", _NUL) if isinstance(value, str) else value for value in row]


def _told(rows: Iterator[_Row], what: str, total: int, tell: Tell) -> Iterator[_Row]:
    for number, row in enumerate(rows):
        if number % _AT_ONCE == 0:
            tell(what, number, total, "row")
        yield row


class _Sum:
    """Counts and sums rows up as they pass."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all that passed, in order."""
        return self._hash.hexdigest()

    def over(self, rows: Iterator[_Row]) -> Iterator[_Row]:
        """The same rows."""
        for row in rows:
            self.rows += 1
            self._hash.update(json.dumps(row, default=_text).encode() + b"\n")
            yield row


def _text(value: object) -> str:
    """What JSON has no word for, as text that does not depend on the database."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, date):  # and moments
        return value.isoformat()
    raise TypeError(f"no canonical text for {type(value).__name__}")


def _into_file(connection: Connection, table: Table, rows: Iterator[_Row]) -> None:
    names = table.columns.keys()
    new = table.insert()
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append(dict(zip(names, row, strict=True)))
        if len(some) == _AT_ONCE:
            connection.execute(new, some)
            some = []
    if some:
        connection.execute(new, some)


def _into_server(connection: Connection, table: Table, rows: Iterator[_Row]) -> None:
    """By COPY, which is several times faster; then numbers go on where those of the rows end."""
    driver: Any = connection.connection.driver_connection
    columns = ", ".join(f'"{name}"' for name in table.columns.keys())  # noqa: SIM118 - a collection of columns
    with driver.cursor().copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    for column in table.primary_key.columns:
        sequence = connection.scalar(_SEQUENCE, {"table": table.name, "column": column.name})
        newest = connection.scalar(select(func.max(column)))
        if sequence and newest:
            connection.execute(_GO_ON, {"sequence": sequence, "newest": newest})
