"""PostgreSQL: a server, and others who write at the same time.

SQLite gives each writer the whole database. Here transactions are READ COMMITTED, and what SQLite
gave is kept where it matters, row by row, so that workers need not wait for each other:

- what must be there once has a unique constraint, and who comes second takes what the first wrote
  (ON CONFLICT DO NOTHING, then read: `work.record`, `outcomes.finish`, `answers.ask_within`);
- numbers are counted up by the database or under a lock on their row, never read and then written;
- rows that many transactions touch (`result_lists`) are locked last and in order, so that no two
  wait for each other;
- what happens once in a site's life (schema, mark) takes an advisory lock;
- who asks several questions about one moment asks in a snapshot (`dialect.snapshot`); engines
  that only read do so always.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url

from worker.config import Database
from worker.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import psycopg

_DRIVER = "postgresql+psycopg"
NAMES = ("postgresql", "postgres", _DRIVER)  # as URLs begin, `postgres` as libpq has it
OLDEST = 14
_READERS = 40  # at once: threads of the web page; connections are made as they are needed
_STALLED_S = 60  # a writer that stops in the middle of its transaction holds others up no longer
_LINK: dict[str, object] = {  # of libpq: a connection is given up when the network is silent
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
    "fallback_application_name": "screen",
    "client_encoding": "utf8",
}


def open_server(url: URL, settings: Database, *, read_only: bool) -> Engine:
    """Engine for a database of a server; libpq finds what the URL leaves out (user, password)."""
    require_driver()
    reading = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    engine = create_engine(
        url.set(drivername=_DRIVER),
        connect_args=_link(url, settings),
        hide_parameters=True,
        max_overflow=_READERS if read_only else 10,
        pool_pre_ping=True,  # the server may have been started again
        execution_options=reading if read_only else {},
    )
    settled = _settings(settings, read_only)
    event.listen(engine, "connect", lambda driver, _record: _prepare(driver, settled))
    return engine


def require_driver() -> ModuleType:
    """psycopg, which is an extra. Raises ConfigError that says how to install it."""
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise ConfigError(
            "database.url names PostgreSQL, and psycopg is not installed: "
            "pip install 'cxr-screen[postgres]'"
        ) from error


def connect(settings: Database) -> "psycopg.Connection":
    """A connection by itself, for reading, otherwise as those of engines. Raises psycopg.Error."""
    url = make_url(settings.url).set(drivername=_DRIVER)
    positional, options = url.get_dialect()().create_connect_args(url)
    options = {**options, **_link(url, settings)}
    driver: psycopg.Connection = require_driver().connect(*positional, **options)
    _prepare(driver, _settings(settings, read_only=True))
    return driver


def _link(url: URL, settings: Database) -> dict[str, object]:
    """What libpq is told beside the URL, which may know better."""
    timeout = {"connect_timeout": max(2, round(settings.busy_timeout_s))}
    return {name: value for name, value in (_LINK | timeout).items() if name not in url.query}


def _settings(settings: Database, read_only: bool) -> str:
    """What holds for the whole connection; a commit is on the server's disk when it returns."""
    stalled_ms = 0 if read_only else _STALLED_S * 1000
    return (
        "SET TimeZone = 'UTC';"
        f"SET lock_timeout = {max(1, round(settings.busy_timeout_s * 1000))};"
        f"SET idle_in_transaction_session_timeout = {stalled_ms};"
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )


def _prepare(driver: Any, settled: str) -> None:
    version = driver.info.server_version // 10_000
    if version < OLDEST:
        raise StoreError(f"the database is PostgreSQL {version}: {OLDEST} or newer is needed")
    encoding = driver.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"the database keeps text as {encoding}, which lacks letters of names: make another "
            "with createdb --encoding UTF8 --template template0"
        )
    driver.autocommit = True
    driver.execute(settled)
    driver.autocommit = False
