"""How files end: looked up before, written in one transaction per batch."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from worker.errors import FilmError
from worker.failpoints import reach
from worker.records import PreparedFilm, Record
from worker.store.tables import Failure, File, Film, Screening
from worker.store.work import Item


@dataclass(frozen=True)
class Screened:
    """A film that got its answer. `page` and `picture` are paths below reports/."""

    item: Item
    record: Record
    film: PreparedFilm
    evidence: NDArray[np.float32]
    page: str
    picture: str
    final_name: str | None


@dataclass(frozen=True)
class Duplicate:
    """A file whose content was screened by the same model, before or earlier in its batch."""

    item: Item
    sha256: str
    final_name: str | None


@dataclass(frozen=True)
class Failed:
    """A file that could not be screened. `sha256` is `None` if it could not even be read."""

    item: Item
    sha256: str | None
    error: FilmError
    final_name: str | None


Outcome = Screened | Duplicate | Failed


def screened_contents(engine: Engine, contents: Iterable[str], model_id: int) -> set[str]:
    """Which of these contents (SHA-256) this model has screened already.

    Those whose report was removed by retention are left out: they want a new one.
    """
    asked = (
        select(Film.sha256)
        .join(Screening, Screening.film_id == Film.id)
        .where(Film.sha256.in_(list(contents)), Screening.model_id == model_id)
        .where(Screening.report_removed_at.is_(None))
    )
    with Session(engine) as session:
        return set(session.scalars(asked))


def finish(
    engine: Engine, outcomes: Sequence[Outcome], *, run_id: int, model_id: int, now: datetime
) -> None:
    """Write the outcomes of a batch, all or none."""
    with Session(engine) as session, session.begin():
        for outcome in sorted(outcomes, key=lambda each: isinstance(each, Duplicate)):
            _finish_one(session, outcome, run_id, model_id, now)
        reach("outcomes-written")
    reach("outcomes-committed")


def _finish_one(
    session: Session, outcome: Outcome, run_id: int, model_id: int, now: datetime
) -> None:
    changes: dict[str, object] = {"finished_at": now, "final_name": outcome.final_name}
    match outcome:
        case Screened():
            again = _with_a_new_report(session, outcome, model_id)
            screening = again or _screening(session, outcome, run_id, model_id, now)
            changes |= {
                "state": "duplicate" if again else "screened",
                "sha256": outcome.record.sha256,
                "screening_id": screening.id,
            }
        case Duplicate():
            changes |= {
                "state": "duplicate",
                "sha256": outcome.sha256,
                "screening_id": _screening_of(session, outcome.sha256, model_id),
            }
        case Failed():
            session.add(_failure(outcome, run_id, now))
            changes |= {"state": "failed", "sha256": outcome.sha256}
    session.execute(update(File).where(File.id == outcome.item.id).values(changes))


def _with_a_new_report(session: Session, outcome: Screened, model_id: int) -> Screening | None:
    """The screening of this content whose report retention had removed, now with its new one.

    Its first answer stands: one content and one model have one answer.
    """
    asked = select(Screening).join(Film, Film.id == Screening.film_id)
    asked = asked.where(Film.sha256 == outcome.record.sha256, Screening.model_id == model_id)
    screening = session.scalar(asked.where(Screening.report_removed_at.is_not(None)))
    if screening is not None:
        screening.page, screening.picture = outcome.page, outcome.picture
        screening.report_removed_at = None
    return screening


def _screening_of(session: Session, sha256: str, model_id: int) -> int:
    asked = select(Screening.id).join(Film, Film.id == Screening.film_id)
    asked = asked.where(Film.sha256 == sha256, Screening.model_id == model_id)
    return session.scalars(asked).one()


def _failure(outcome: Failed, run_id: int, now: datetime) -> Failure:
    return Failure(
        file_id=outcome.item.id,
        run_id=run_id,
        reason=outcome.error.slug,
        message=str(outcome.error),
        failed_at=now,
    )


def _screening(
    session: Session, outcome: Screened, run_id: int, model_id: int, now: datetime
) -> Screening:
    record, evidence = outcome.record, outcome.evidence.astype("<f4")
    screening = Screening(
        film_id=_film(session, outcome, now).id,
        model_id=model_id,
        run_id=run_id,
        decision=record.decision,
        probability=record.probability,
        threshold=record.threshold,
        guard_score=record.guard_score,
        guard_threshold=record.guard_threshold,
        reason=record.reason,
        message=record.message,
        evidence=evidence.tobytes(),
        evidence_rows=evidence.shape[0],
        evidence_columns=evidence.shape[1],
        picture=outcome.picture,
        page=outcome.page,
        screened_at=now,
    )
    session.add(screening)
    session.flush()
    return screening


def _film(session: Session, outcome: Screened, now: datetime) -> Film:
    row = session.scalar(select(Film).where(Film.sha256 == outcome.record.sha256))
    if row is None:
        film = outcome.film
        row = Film(
            sha256=outcome.record.sha256,
            format=film.format,
            rows=film.rows,
            columns=film.columns,
            notes=list(film.notes),
            first_seen_at=now,
            **asdict(film.tags),
        )
        session.add(row)
        session.flush()
    return row
