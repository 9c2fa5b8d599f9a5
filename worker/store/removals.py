"""What retention may remove, what it is removing, and the days by which films age."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from sqlalchemy import Engine, case, delete, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from worker.intake.found import INBOX
from worker.store.dialect import insert_into
from worker.store.lists import blocks_of_reports, mark_blocks_due
from worker.store.tables import HAS_REPORT, File, Removal, RetentionDay, Screening

_UPDATED_AT_ONCE = 500  # statements have a limit of variables


@dataclass(frozen=True)
class StoredFilm:
    """A film that was put into done/; `finished_at` is at least that of all films before it.

    `size`, `mtime_ns` and `sha256` tell whether the file of this name is still that film.
    """

    id: int
    name: str
    claim: str
    size: int
    mtime_ns: int
    sha256: str | None
    finished_at: datetime

    @property
    def last_file(self) -> int:
        """The newest file that has to do with it: itself."""
        return self.id


@dataclass(frozen=True)
class StoredReport:
    """Page and picture below reports/; `finished_at` is when `last_file`, its newest, ended."""

    id: int
    names: tuple[str, str]
    finished_at: datetime
    last_file: int


@dataclass(frozen=True)
class Day:
    """A day that the site lived; `last_file_before` is the newest file when it was first seen."""

    day: date
    last_file_before: int


@dataclass(frozen=True)
class ToUnlink:
    """A file whose removal is under way; `taken` says that its name belongs to a new one."""

    id: int
    name: str
    folder: Literal["done", "reports"]
    taken: bool


@dataclass(frozen=True)
class LastRemoval:
    """The day on which retention last removed something, and how much that day."""

    at: datetime
    films: int
    reports: int
    freed_bytes: int


def note_day(engine: Engine, today: date) -> None:
    """Remember that the site lived to see this day."""
    with Session(engine) as session:
        if session.get(RetentionDay, today) is not None:
            return
    values = {"day": today, "films": 0, "reports": 0, "freed_bytes": 0}
    with Session(engine) as session, session.begin():
        values["last_file_before"] = session.scalar(select(func.max(File.id))) or 0
        new = insert_into(session.connection(), RetentionDay)
        session.execute(new.values(values).on_conflict_do_nothing())


def days_lived(engine: Engine) -> list[Day]:
    """Days on which the site is known to have lived, in order."""
    asked = select(RetentionDay.day, RetentionDay.last_file_before).order_by(RetentionDay.day)
    with engine.connect() as connection:
        return [Day(*row) for row in connection.execute(asked)]


# A film cannot have finished before those that came before it: a clock that once stood in the
# past must not make its films old.
_ENDED = (
    select(
        File.id.label("id"),
        File.screening_id.label("screening_id"),
        func.max(File.finished_at).over(order_by=File.id).label("finished_at"),
    )
    .where(File.finished_at.is_not(None))
    .subquery()
)


def films_before(engine: Engine, moment: datetime, limit: int) -> list[StoredFilm]:
    """Films of the inbox that were put into done/ before a moment and are kept, oldest first."""
    newer = aliased(File)  # of the inbox: files of archives have no name of ours
    taken_over = select(newer.id).where(
        newer.final_name == File.final_name,
        newer.state.in_(("screened", "duplicate")),
        newer.id > File.id,
    )
    columns = (File.id, File.final_name, File.claim, File.size, File.mtime_ns, File.sha256)
    asked = (
        select(*columns, _ENDED.c.finished_at)
        .join(_ENDED, _ENDED.c.id == File.id)
        .where(File.source == INBOX, File.state.in_(("screened", "duplicate")))
        .where(File.final_name.is_not(None), File.film_removed_at.is_(None))
        .where(_ENDED.c.finished_at < moment, ~taken_over.exists())
        .order_by(File.id)
        .limit(limit)
    )
    with engine.connect() as connection:
        return [StoredFilm(*row) for row in connection.execute(asked)]


def reports_before(engine: Engine, moment: datetime, limit: int) -> list[StoredReport]:
    """Reports whose film was last fed in before a moment and that are kept, oldest first."""
    last, last_file = func.max(_ENDED.c.finished_at), func.max(_ENDED.c.id)
    asked = (
        select(Screening.id, Screening.page, Screening.picture, last, last_file)
        .join(_ENDED, _ENDED.c.screening_id == Screening.id)
        .where(HAS_REPORT)
        .group_by(Screening.id)
        .having(last < moment)
        .order_by(last, Screening.id)
        .limit(limit)
    )
    with engine.connect() as connection:
        return [
            StoredReport(number, (page, picture), ended, file)
            for number, page, picture, ended, file in connection.execute(asked)
        ]


def begin_removal(
    engine: Engine,
    *,
    films: Sequence[StoredFilm],
    reports: Sequence[StoredReport],
    freed_bytes: int,
    now: datetime,
) -> None:
    """Say in one transaction that these are removed, and which files are still to be unlinked."""
    names: list[tuple[str, int | None]] = [(film.name, None) for film in films]
    names += [(name, report.id) for report in reports for name in report.names]
    blocks = set[int]()
    with Session(engine) as session, session.begin():
        for start in range(0, max(len(films), len(reports)), _UPDATED_AT_ONCE):
            ids = [each.id for each in films[start : start + _UPDATED_AT_ONCE]]
            session.execute(update(File).where(File.id.in_(ids)).values(film_removed_at=now))
            ids = [each.id for each in reports[start : start + _UPDATED_AT_ONCE]]
            gone = update(Screening).where(Screening.id.in_(ids))
            session.execute(gone.values(report_removed_at=now))
            blocks |= blocks_of_reports(session.connection(), ids)
        if names:
            session.execute(insert(Removal), [{"name": n, "screening_id": of} for n, of in names])
        today = now.astimezone(UTC).date()
        day = session.get_one(RetentionDay, today, with_for_update=True)
        day.films += len(films)
        day.reports += len(reports)
        day.freed_bytes += freed_bytes
        day.last_removed_at = now
        session.flush()
        mark_blocks_due(session.connection(), blocks)


def under_way(engine: Engine) -> list[ToUnlink]:
    """Files still to be unlinked, in order."""
    new_film = select(File.id).where(
        File.final_name == Removal.name,
        File.state.in_(("screened", "duplicate")),
        File.film_removed_at.is_(None),
    )
    new_report = select(Screening.id).where(Screening.id == Removal.screening_id, HAS_REPORT)
    taken = case((Removal.screening_id.is_(None), new_film.exists()), else_=new_report.exists())
    asked = select(Removal.id, Removal.name, Removal.screening_id, taken).order_by(Removal.id)
    with engine.connect() as connection:
        return [
            ToUnlink(number, name, "done" if screening is None else "reports", bool(again))
            for number, name, screening, again in connection.execute(asked)
        ]


def end_removal(engine: Engine, last_id: int) -> None:
    """Forget the files that were to be unlinked, up to this one."""
    with Session(engine) as session, session.begin():
        session.execute(delete(Removal).where(Removal.id <= last_id))


def last_removal(engine: Engine) -> LastRemoval | None:
    """When retention last removed something; `None` if never."""
    asked = select(RetentionDay).where(RetentionDay.last_removed_at.is_not(None))
    with Session(engine) as session:
        day = session.scalar(asked.order_by(RetentionDay.last_removed_at.desc()).limit(1))
        if day is None or day.last_removed_at is None:
            return None
        return LastRemoval(day.last_removed_at, day.films, day.reports, day.freed_bytes)
