"""Which site a database belongs to, and which of its pages survived for sure."""

from datetime import datetime

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.orm import Session

from worker.store.dialect import one_at_a_time
from worker.store.tables import SiteMark


def site_mark(engine: Engine) -> str | None:
    """The mark of the site, `None` before the first worker held it."""
    with Session(engine) as session:
        return session.scalar(select(SiteMark.mark))


def keep_site_mark(engine: Engine, mark: str, now: datetime) -> str:
    """Remember the mark, once and for all; gives the one that counts: another may be first."""
    with Session(engine) as session, session.begin():
        one_at_a_time(session.connection(), "site")
        first = session.scalar(select(SiteMark.mark))
        if first is None:
            session.add(SiteMark(mark=mark, made_at=now))
        return first or mark


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
