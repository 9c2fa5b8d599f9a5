"""What can be found wrong with a database of PostgreSQL from within it."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, select, text

from worker.errors import StoreError
from worker.progress import Tell
from worker.store.dialect import snapshot
from worker.store.tables import Base

_INVALID = """
SELECT CAST(indexrelid AS regclass) || ' is not valid: REINDEX it' FROM pg_index
WHERE NOT indisvalid AND CAST(indrelid AS regclass)::text = ANY(:tables)
UNION ALL
SELECT conname || ' was never checked: ALTER TABLE … VALIDATE CONSTRAINT' FROM pg_constraint
WHERE NOT convalidated AND CAST(conrelid AS regclass)::text = ANY(:tables)
UNION ALL
SELECT checksum_failures || ' pages were read with a wrong checksum' FROM pg_stat_database
WHERE datname = current_database() AND checksum_failures > 0
"""
_HAS_AMCHECK = """
SELECT bool_or(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc
WHERE proname = 'bt_index_check' AND pronargs = 1
"""
_CHECK = text("SELECT bt_index_check(CAST(:index AS regclass))")
_INDEXES = """
SELECT CAST(pg_class.oid AS regclass)::text FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
WHERE amname = 'btree' AND indisvalid AND CAST(indrelid AS regclass)::text = ANY(:tables)
ORDER BY 1
"""
_SETTINGS = """
SELECT current_setting('server_version') AS version, current_user AS role,
       current_setting('is_superuser') AS superuser, current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes
"""
_WHAT = "checking the database"


def problems_of_server(engine: Engine, tell: Tell) -> list[str]:
    """What is wrong with our tables; empty when all is well.

    That every key points at a row, what the server itself marked as invalid, pages with a wrong
    checksum (if it keeps checksums), and the order of each index where the extension amcheck is
    there and may be used.
    """
    tables = {"tables": [*Base.metadata.tables, "alembic_version"]}
    with snapshot(engine) as connection:
        problems = list(connection.scalars(text(_INVALID), tables))
        problems += _orphans(connection, tell)
        if connection.scalar(text(_HAS_AMCHECK)):
            problems += _disorder(
                connection, list(connection.scalars(text(_INDEXES), tables)), tell
            )
    return problems


@dataclass(frozen=True)
class ServerSettings:
    """What a server is, and what to change there: what may lose results, what is careless."""

    words: str
    unsafe: tuple[str, ...]
    careless: tuple[str, ...]


def server_settings(engine: Engine) -> ServerSettings:
    """How the server of a database is set up."""
    with engine.connect() as connection:
        found = connection.execute(text(_SETTINGS)).one()
    off = [name for name in ("fsync", "full_page_writes") if getattr(found, name) == "off"]
    return ServerSettings(
        words=f"PostgreSQL {found.version}, user {found.role}",
        unsafe=tuple(f"a power loss loses results: set {name} = on there" for name in off),
        careless=("give the worker a user of its own, without the rights of a superuser",)
        if found.superuser == "on"
        else (),
    )


def _orphans(connection: Connection, tell: Tell) -> Iterator[str]:
    keys = [key for table in Base.metadata.tables.values() for key in table.foreign_keys]
    for number, key in enumerate(keys):
        tell(_WHAT, number, len(keys), "key")
        there = select(key.column).where(key.column == key.parent).exists()
        lost = select(func.count()).where(key.parent.is_not(None), ~there)
        if count := connection.scalar(lost):
            yield (
                f"{count} rows of {key.parent.table.name} point at nothing in "
                f"{key.column.table.name}"
            )


def _disorder(connection: Connection, indexes: list[str], tell: Tell) -> Iterator[str]:
    for number, index in enumerate(indexes):
        tell(_WHAT, number, len(indexes), "index")
        try:
            with connection.begin_nested():
                connection.execute(_CHECK, {"index": index})
        except StoreError as error:
            yield str(error)
