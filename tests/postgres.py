"""A real PostgreSQL server for tests, and databases on it that are there at once.

Debian's package is enough; nothing of it need run. The server is one's own: in a temporary folder,
reached by a socket there alone, gone at the end. It syncs nothing to the disk: tests of what
survives a power loss do not belong here.
"""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
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
    "random_page_cost": "1.1",  # a disk without heads, as servers have
    "max_connections": "100",
    "listen_addresses": "",
}
_MIGRATED = "migrated"
_STARTS_S = 60.0


class Server:
    """A running server; `folder` holds its data and its socket.

    With a `port` it answers other hosts too.
    """

    def __init__(self, folder: Path, program: Path, port: int | None, owner: str | None) -> None:
        self.folder = folder
        self._program, self._port, self._owner = program, port, owner
        self._numbers = itertools.count()
        self._process = self._started()

    def url(self, database: str, driver: str = "postgresql") -> str:
        """URL of a database."""
        port = f"&port={self._port}" if self._port else ""
        return f"{driver}://screen@/{database}?host={self.folder}{port}"

    def restart(self) -> None:
        """Take it down as if it had crashed, and start it again."""
        self.stop()
        self._process = self._started()

    def stop(self) -> None:
        """Take it down as if it had crashed."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def _started(self) -> "subprocess.Popen[bytes]":
        other = {"listen_addresses": "*", "port": str(self._port)} if self._port else {}
        settings = [f"--{name}={value}" for name, value in (_QUICK | other).items()]
        folder = self.folder
        command = [self._program / "postgres", "-D", folder / "data", "-k", folder, *settings]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "QUIT", *map(str, command)],  # it dies with us, however
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the tests, which need it to the end
                **_as(self._owner),
            )
        port = ["-p", str(self._port)] if self._port else []
        _wait(process, [self._program / "pg_isready", "-q", "-h", folder, *port], folder / "log")
        return process

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


def server_programs() -> Path:
    """Where the programs of the newest server are. Skips where there is none."""
    programs = sorted(Path("/").glob(_HOMES), key=lambda path: float(path.parent.name))
    if not programs:
        pytest.skip("Debian's package postgresql is not installed")
    return programs[-1]


@contextmanager
def running_server(port: int | None = None) -> Iterator[Server]:
    """Start a server; it and its folder are gone at the end. Skips where there is none."""
    program = server_programs()
    folder = Path(tempfile.mkdtemp(prefix="screen-postgres-"))
    owner = _owner()
    if owner:
        shutil.chown(folder, owner)
    _run(program / "initdb", "--auth=trust", "--username=screen", "--encoding=UTF8", "--locale=C",
         "--no-sync", f"--pgdata={folder}/data", owner=owner)  # fmt: skip
    with (folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all all samenet trust\n")
    server = Server(folder, program, port, owner)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _wait(server: "subprocess.Popen[bytes]", ask: Sequence[object], log: Path) -> None:
    deadline = time.monotonic() + _STARTS_S
    while subprocess.run(list(map(str, ask)), check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL does not start: {log.read_text()}")
        time.sleep(0.05)


def _owner() -> str | None:
    """Another user to run the server, which refuses to be root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _USERS if name in known)


def _as(owner: str | None) -> dict[str, object]:
    return {} if owner is None else {"user": owner, "group": pwd.getpwnam(owner).pw_gid}


def _run(*command: object, owner: str | None) -> None:
    subprocess.run(
        list(map(str, command)),
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
        **_as(owner),
    )
