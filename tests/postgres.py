"""A real PostgreSQL server for tests, and databases on it that are there at once.

Debian's package is enough; nothing of it need run. The server is one's own: in a temporary folder,
reached by a socket there alone, gone at the end. It syncs nothing to the disk: tests of what
survives a power loss do not belong here.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from worker.config import Database
from worker.store.database import open_database, upgrade

_HOMES = "usr/lib/postgresql/*/bin"  # Debian keeps several versions side by side, outside the PATH
_USERS = ("postgres", "nobody")  # as which a server may run where root may not
_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "listen_addresses": "",
}
_MIGRATED = "migrated"


class Server:
    """A running server; `folder` holds its data and its socket, `control` is its pg_ctl."""

    def __init__(self, folder: Path, control: Callable[..., None], port: int | None = None) -> None:
        self.folder, self.control, self.port = folder, control, port
        self._numbers = itertools.count()

    def url(self, database: str, driver: str = "postgresql") -> str:
        """URL of a database."""
        port = f"&port={self.port}" if self.port else ""
        return f"{driver}://screen@/{database}?host={self.folder}{port}"

    def run(self, statement: str) -> None:
        """One statement outside any transaction."""
        engine = create_engine(self.url("postgres", "postgresql+psycopg"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement))
        engine.dispose()

    def migrate(self) -> None:
        """Make the database from which `database` copies."""
        self.run(f"CREATE DATABASE {_MIGRATED}")
        engine = open_database(Database(url=self.url(_MIGRATED)))
        upgrade(engine)
        engine.dispose()

    @contextmanager
    def database(self, *, migrated: bool = False, encoding: str = "UTF8") -> Iterator[str]:
        """URL of a new database: empty, or with today's schema."""
        name = f"test_{next(self._numbers)}"
        template = f"{_MIGRATED} STRATEGY file_copy" if migrated else "template0"
        template += f" ENCODING '{encoding}'"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_server(port: int | None = None) -> Iterator[Server]:
    """Start a server; it and its folder are gone at the end. Skips where there is none.

    With a port it answers other hosts too.
    """
    programs = sorted(Path("/").glob(_HOMES), key=lambda path: float(path.parent.name))
    if not programs:
        pytest.skip("Debian's package postgresql is not installed")
    folder = Path(tempfile.mkdtemp(prefix="screen-postgres-"))
    owner = _owner()
    if owner:
        shutil.chown(folder, owner)
    program = programs[-1]
    _run(program / "initdb", "--auth=trust", "--username=screen", "--encoding=UTF8", "--locale=C",
         "--no-sync", f"--pgdata={folder}/data", owner=owner)  # fmt: skip
    options = " ".join(f"-c {name}={value}" for name, value in _QUICK.items())
    quiet = (f"--pgdata={folder}/data", "--silent", "--wait", f"--log={folder}/log")

    def control(*command: str) -> None:
        _run(program / "pg_ctl", *quiet, *command, owner=owner)

    if port:
        options += f" -c listen_addresses=* -c port={port}"
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
    control(f"--options=-k {folder} {options}", "start")
    try:
        yield Server(folder, control, port)
    finally:
        control("--mode=immediate", "stop")
        shutil.rmtree(folder)


def _owner() -> str | None:
    """Another user to run the server, which refuses to be root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _USERS if name in known)


def _run(*command: object, owner: str | None) -> None:
    as_owner = {} if owner is None else {"user": owner, "group": pwd.getpwnam(owner).pw_gid}
    subprocess.run(
        list(map(str, command)),
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
        **as_owner,
    )
