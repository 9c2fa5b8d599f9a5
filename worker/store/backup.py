"""Copies of the database: made while a worker runs, and checked before one takes its place."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from worker.config import Database
from worker.errors import StoreError
from worker.filesystem import move_new, sync_folder
from worker.intake.found import INBOX
from worker.progress import Tell, nobody
from worker.store.database import integrity_problems, open_database, revisions, upgrade
from worker.store.lists import mark_all_due
from worker.store.mark import begin_history, mark_pages_unsafe
from worker.store.tables import File

_PREFIX = ".screen-copy-"
_STEP_PAGES = 1024  # 4 MiB
_PIECE_BYTES = 1 << 22


def back_up(engine: Engine, target: Path, *, overwrite: bool = False, tell: Tell = nobody) -> None:
    """Copy the database to a file of its own, 0600, beside a running worker; whole or not at all.

    It is made and checked on the database's own disk, so that `target` may lie on a share. Raises
    StoreError when the copy is not sound, FileExistsError, OSError when it cannot be written.
    """
    beside = Path(str(engine.url.database)).parent
    _sweep(beside)
    with _temporary(beside) as copy:
        _copy(engine, copy, tell)
        _require_sound(copy, "the database is damaged, its copy was not kept", tell)
        with _temporary(target.parent) as delivered:
            _copy_file(copy, delivered, tell)
            _sync(delivered)
            (os.replace if overwrite else move_new)(delivered, target)
            sync_folder(target.parent)


@contextmanager
def restorable(source: Path, settings: Database, tell: Tell = nobody) -> Iterator[Path]:
    """A checked copy of a backup, beside the database that it is to replace, in today's schema.

    Raises StoreError when it is no database of Screen, is damaged, or of a newer program.
    """
    if not source.is_file():
        raise StoreError(f"there is no file {source}: name a file that 'screen db backup' wrote")
    _sweep(settings.file.parent)
    with _temporary(settings.file.parent) as copy:
        for rest in ("", "-wal"):  # somebody may have copied a database in use, with its log
            if Path(f"{source}{rest}").is_file():
                _copy_file(Path(f"{source}{rest}"), Path(f"{copy}{rest}"), tell)
        _require_sound(copy, f"{source} is damaged or no database: take another backup", tell)
        engine = open_database(settings.model_copy(update={"url": f"sqlite:///{copy}"}))
        try:
            if revisions(engine)[0] is None:
                raise StoreError(f"{source} is no database of Screen: take another backup")
            bring_up_to_date(engine)
        finally:
            engine.dispose()
        yield copy


def bring_up_to_date(engine: Engine) -> None:
    """Give a restored database today's schema; the pages that are there are those of another."""
    upgrade(engine)
    mark_all_due(engine)
    with engine.begin() as connection:
        mark_pages_unsafe(connection, 1)
        begin_history(connection)


def forget_moved(engine: Engine, claims: set[str]) -> int:
    """Forget files of the inbox that were on their way and are no longer; how many.

    `claims` are the folders of work/. In a restored database the others ended after the backup:
    their films lie in done/ or failed/.
    """
    on_their_way = (File.source == INBOX, File.state.in_(("waiting", "attempted")))
    with Session(engine) as session, session.begin():
        rows = session.execute(select(File.id, File.claim).where(*on_their_way)).all()
        gone = [number for number, claim in rows if claim not in claims]
        for start in range(0, len(gone), 500):  # statements have a limit of variables
            session.execute(delete(File).where(File.id.in_(gone[start : start + 500])))
    return len(gone)


def known_names(engine: Engine, *, failed: bool) -> set[str]:
    """Names that films of the inbox were given in done/, or in failed/."""
    states = ("failed",) if failed else ("screened", "duplicate")
    asked = select(File.final_name).where(File.source == INBOX, File.state.in_(states))
    with Session(engine) as session:
        return set(session.scalars(asked.where(File.final_name.is_not(None))))


def close_up(file: Path) -> bool:
    """Take the log into the database file, so that it is whole by itself; false if it is damaged.

    Raises StoreError when another program has it open.
    """
    engine = _private(file)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    except DatabaseError as error:
        if getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreError(
                "another program has the database open: close it, then try again"
            ) from error
        return False
    finally:
        engine.dispose()
    _sync(file)
    return True


def _copy(engine: Engine, target: Path, tell: Tell) -> None:
    """Copy with SQLite's backup API: one reader, which blocks no writer in WAL mode.

    The reader's transaction is held throughout: else a writer between two steps would make SQLite
    begin again (sqlite.org/backup.html), for ever beside a busy worker.
    """
    into = _private(target)
    source, sink = engine.raw_connection(), into.raw_connection()
    driver: Any = source.driver_connection
    try:
        driver.execute("BEGIN")
        (page_bytes,) = driver.execute("PRAGMA page_size").fetchone()
        driver.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot is of now

        def copied(_status: int, remaining: int, total: int) -> None:
            tell("copying the database", (total - remaining) * page_bytes, total * page_bytes, "B")

        driver.backup(sink.driver_connection, pages=_STEP_PAGES, progress=copied)
    except Exception as error:  # the driver's own types, which only SQLAlchemy may import here
        raise StoreError(f"the database could not be copied: {error}") from error
    finally:
        driver.rollback()
        sink.close()
        source.close()
        into.dispose()
    close_up(target)


def _copy_file(source: Path, target: Path, tell: Tell) -> None:
    size, done = source.stat().st_size, 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(_PIECE_BYTES):
            writer.write(piece)
            done += len(piece)
            tell(f"copying to {target.parent}", done, size, "B")


def _require_sound(path: Path, otherwise: str, tell: Tell) -> None:
    engine = _private(path)
    try:
        problems = integrity_problems(engine, tell)
    except DatabaseError as error:
        raise StoreError(f"{otherwise} ({error.orig})") from error
    finally:
        engine.dispose()
    if problems:
        raise StoreError(f"{otherwise} ({problems[0]})")


def _private(path: Path) -> Engine:
    """Engine for a file whatever its mode is; each statement stands alone."""
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _autocommit)
    return engine


def _autocommit(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sweep(folder: Path) -> None:
    """Remove copies whose process was killed."""
    for path in folder.glob(f"{_PREFIX}*-*.tmp*"):
        if not Path("/proc", path.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            path.unlink(missing_ok=True)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A new empty file, 0600, that is gone at the end unless it was renamed."""
    descriptor, name = tempfile.mkstemp(".tmp", f"{_PREFIX}{os.getpid()}-", folder)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        for rest in ("", "-wal", "-shm", "-journal"):
            Path(name + rest).unlink(missing_ok=True)
