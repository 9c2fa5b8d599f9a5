"""Which site a database belongs to, and which of its pages survived for sure."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, func, select, text, update
from sqlalchemy.orm import Session

from worker.store.dialect import one_at_a_time
from worker.store.tables import File, SiteMark

_KIND = 0x5343_4D4B  # "SCMK": ours, among all advisory locks of the server
_FIRST = select(SiteMark.mark).order_by(SiteMark.made_at).limit(1)  # rows move when updated


def site_mark(engine: Engine) -> str | None:
    """The mark of the site, the first of several; `None` before the first worker held it."""
    with Session(engine) as session:
        return session.scalar(_FIRST)


def site_marks(engine: Engine) -> list[str]:
    """The marks of all sites of this database, the first one first."""
    with Session(engine) as session:
        return list(session.scalars(select(SiteMark.mark).order_by(SiteMark.made_at)))


def of_site(mark: str) -> ColumnElement[bool]:
    """Whether a file's film lies in the folders of this site, where several share the database.

    Files that no site is named for are from before the second site: those of the first.
    """
    return func.coalesce(File.site_mark, _FIRST.scalar_subquery()) == mark


def claims_of_others(engine: Engine, mark: str) -> set[str]:
    """Claims of films that are on their way in the folders of other sites of this database."""
    on_their_way = File.state.in_(("waiting", "attempted"))
    with Session(engine) as session:
        return set(session.scalars(select(File.claim).where(on_their_way, ~of_site(mark))))


@contextmanager
def marking(engine: Engine) -> Iterator[None]:
    """Let no other worker of a database on a server mark a site meanwhile."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:kind, 0)"), {"kind": _KIND})
        yield


def add_site_mark(engine: Engine, mark: str, now: datetime) -> None:
    """Add the mark of another site, whose reports are those of the first."""
    with Session(engine) as session, session.begin():
        safe = session.scalar(select(func.min(SiteMark.pages_safe))) or 0
        session.add(SiteMark(mark=mark, made_at=now, pages_safe=safe))


def keep_site_mark(engine: Engine, mark: str, now: datetime) -> str:
    """Remember the mark, once and for all; gives the one that counts: another may be first."""
    with Session(engine) as session, session.begin():
        one_at_a_time(session.connection(), "site")
        first = session.scalar(_FIRST)
        if first is None:
            session.add(SiteMark(mark=mark, made_at=now))
        return first or mark


def history(engine: Engine) -> str:
    """Which history of the database this is: a backup that is put in place begins another."""
    with engine.connect() as connection:
        return connection.scalar(select(SiteMark.history).order_by(SiteMark.made_at).limit(1)) or ""


def begin_history(connection: Connection) -> None:
    """What is counted from now on is not what was counted after the backup."""
    connection.execute(update(SiteMark).values(history=uuid.uuid4().hex))


def pages_safe(engine: Engine) -> int:
    """Pages of screenings up to this number are whole on the disk; 0 when nothing is known."""
    with engine.connect() as connection:
        return connection.scalar(select(SiteMark.pages_safe)) or 0


def keep_pages_safe(engine: Engine, screening: int) -> None:
    """Remember that pages of screenings up to this number were synced to the disk, whole."""
    with engine.begin() as connection:
        connection.execute(update(SiteMark).values(pages_safe=screening))


def mark_pages_unsafe(connection: Connection, screening: int) -> None:
    """Pages from this screening's on may be cut short by a power loss: its own is written again."""
    known_safe = update(SiteMark).where(SiteMark.pages_safe >= screening)
    connection.execute(known_safe.values(pages_safe=screening - 1))
