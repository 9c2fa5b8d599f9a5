"""Failures as operators handle them: which stand, and what was decided about the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine, Row, Select, func, or_, select, update
from sqlalchemy.orm import Session

from worker.intake.found import INBOX
from worker.store.lists import mark_due
from worker.store.mark import of_site
from worker.store.tables import Failure, File

Resolution = Literal["retrying", "retried", "discarded"]
STANDING = or_(Failure.resolution.is_(None), Failure.resolution == "retrying")


@dataclass(frozen=True)
class Failing:
    """One file that failed. `id` is the number of the file; `name` is its name in failed/.

    `name` is `None` and `claim` empty for files of archives, which are never moved. `resolution`
    is `None` while the failure stands; `retrying` says that a retry was begun and not ended.
    """

    id: int
    file: str
    source: str
    name: str | None
    claim: str
    sha256: str | None
    reason: str
    message: str
    failed_at: datetime
    attempts: int
    strikes: int
    worker_deaths: int
    run: int
    resolution: str | None
    resolved_at: datetime | None

    @property
    def of_inbox(self) -> bool:
        """Whether it was dropped into the inbox; else it lies in an archive."""
        return self.source == INBOX

    @property
    def stands(self) -> bool:
        """Whether nobody has retried or discarded it."""
        return self.resolution in (None, "retrying")


def failures(
    engine: Engine,
    *,
    reason: str | None = None,
    resolution: str | None = None,
    run: int | None = None,
    site_mark: str | None = None,
    every: bool = False,
) -> list[Failing]:
    """Failures that stand, or `every` one, oldest first.

    Only of this reason, resolution, run, or site of those that share the database.
    """
    asked = _asked() if every or resolution else _asked().where(STANDING)
    if reason is not None:
        asked = asked.where(Failure.reason == reason)
    if resolution is not None:
        asked = asked.where(Failure.resolution == resolution)
    if run is not None:
        asked = asked.where(Failure.run_id == run)
    if site_mark is not None:
        asked = asked.where(of_site(site_mark))
    return _read(engine, asked)


def newest_failures(engine: Engine, run: int, limit: int) -> tuple[list[Failing], int]:
    """The newest failures of a run, whatever became of them, and how many it has."""
    mine = Failure.run_id == run
    newest = _asked().where(mine).order_by(None).order_by(File.id.desc()).limit(limit)
    with engine.connect() as connection:
        count = connection.scalar(select(func.count()).select_from(Failure).where(mine)) or 0
    return _read(engine, newest), count


def counts_by_resolution(engine: Engine) -> dict[str, int]:
    """How many failures there are by what became of them; `stand` counts the others."""
    how = func.coalesce(Failure.resolution, "stand")
    asked = select(how, func.count()).group_by(Failure.resolution)
    with engine.connect() as connection:
        return {name: count for name, count in connection.execute(asked)}  # noqa: C416


def failures_called(engine: Engine, word: str) -> list[Failing]:
    """Failures of the file with this number, else of files that have this name, newest first.

    A name is that in failed/, or the one it was fed in with.
    """
    numbered = _read(engine, _asked().where(File.id == int(word))) if word.isdecimal() else []
    named = or_(File.final_name == word, File.file == word)
    return numbered or _read(engine, _asked().where(named))[::-1]


def _asked() -> Select[File, Failure]:
    return (
        select(File, Failure)
        .join(Failure, Failure.file_id == File.id)
        .where(File.state == "failed")
        .order_by(File.id)
    )


def _read(engine: Engine, asked: Select[File, Failure]) -> list[Failing]:
    with Session(engine) as session:
        return [_failing(row) for row in session.execute(asked)]


def _failing(row: Row[File, Failure]) -> Failing:
    file, failure = row
    return Failing(
        id=file.id,
        file=file.file,
        source=file.source,
        name=file.final_name,
        claim=file.claim,
        sha256=file.sha256,
        reason=failure.reason,
        message=failure.message,
        failed_at=failure.failed_at,
        attempts=file.attempts,
        strikes=file.strikes,
        worker_deaths=file.worker_deaths,
        run=failure.run_id,
        resolution=failure.resolution,
        resolved_at=failure.resolved_at,
    )


def resolve(engine: Engine, file_id: int, how: Resolution | None, now: datetime) -> None:
    """Record what was decided about a failure; `None` lets it stand again."""
    moment = now if how else None
    decided = update(Failure).where(Failure.file_id == file_id)
    with engine.begin() as connection:
        connection.execute(decided.values(resolution=how, resolved_at=moment))
        mark_due(connection, [file_id])


def owner_in_failed(engine: Engine, name: str, site_mark: str | None = None) -> int | None:
    """The file that goes by this name in failed/: names become free again, the newest has it.

    Files of archives have no such name. With `site_mark`, in failed/ of that site.
    """
    asked = select(func.max(File.id)).where(File.state == "failed", File.final_name == name)
    if site_mark is not None:
        asked = asked.where(of_site(site_mark))
    with Session(engine) as session:
        return session.scalar(asked)


def is_of_site(engine: Engine, file_id: int, mark: str) -> bool:
    """Whether the film of a file lies in the folders of this site, of several."""
    with Session(engine) as session:
        return session.scalar(select(File.id).where(File.id == file_id, of_site(mark))) is not None


def standing_failures(engine: Engine, sources: Sequence[str], model_id: int) -> int:
    """How many files of these sources this model could not screen, in this run or before.

    Failures that an operator discarded do not count.
    """
    asked = select(func.count()).select_from(File).join(Failure, Failure.file_id == File.id)
    asked = asked.where(File.state == "failed", File.source.in_(sources), STANDING)
    with Session(engine) as session:
        return session.scalars(asked.where(File.model_id == model_id)).one()
