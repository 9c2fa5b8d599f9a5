"""Which site a database belongs to."""

from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from worker.store.tables import SiteMark


def site_mark(engine: Engine) -> str | None:
    """The mark of the site, `None` before the first worker held it."""
    with Session(engine) as session:
        return session.scalar(select(SiteMark.mark))


def keep_site_mark(engine: Engine, mark: str, now: datetime) -> None:
    """Remember the mark, once and for all."""
    with Session(engine) as session, session.begin():
        session.add(SiteMark(mark=mark, made_at=now))
