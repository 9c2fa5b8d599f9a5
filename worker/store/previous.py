"""Films that came before, of the same patient, for a film's page."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Select, func, select
from sqlalchemy.orm import aliased

from worker.records import Labels
from worker.store.tables import HAS_REPORT, Film, Model, Screening

MOST = 10


@dataclass(frozen=True)
class PreviousFilm:
    """Another film of the patient and its newest answer.

    `study_date` is YYYY-MM-DD, `None` where the file does not say; `page` is below reports/, `None`
    where it has none (any more).
    """

    study_date: str | None
    screened_at: datetime
    decision: str
    labels: Labels
    page: str | None

    @property
    def day(self) -> str:
        """When it was taken, else when it was screened: YYYY-MM-DD."""
        return self.study_date or f"{self.screened_at:%Y-%m-%d}"


def has_patients(engine: Engine) -> bool:
    """Whether any film is known to be of some patient."""
    asked = select(Film.id).where(Film.patient_key.is_not(None)).limit(1)
    with engine.connect() as connection:
        return connection.scalar(asked) is not None


def previous_films(
    engine: Engine, patient_key: str | None, sha256: str | None, before: int | None = None
) -> tuple[PreviousFilm, ...]:
    """The patient's other films, newest first: of those that came last, `MOST`.

    Only films with an answer; of one that has several, the newest. `before` leaves out answers from
    this screening on, so that a page rendered again later says what it said at first.
    """
    if patient_key is None:
        return ()
    with engine.connect() as connection:
        found = connection.execute(_asked(patient_key, sha256, before)).all()
    films = [
        PreviousFilm(
            row.study_date,
            row.screened_at,
            row.decision,
            (row.negative, row.positive),
            row.page if row.has_report else None,
        )
        for row in found
    ]
    return tuple(sorted(films, key=lambda film: film.day, reverse=True))


def _asked(
    patient_key: str, sha256: str | None, before: int | None
) -> Select[str | None, datetime, str, str, bool, str, str]:
    """By the index of keys, whose entries are in the order in which films came: nothing to sort."""
    other = aliased(Screening)
    newest = select(func.max(other.id)).where(other.film_id == Film.id)
    if before is not None:
        newest = newest.where(other.id < before)
    return (
        select(
            Film.study_date,
            *(Screening.screened_at, Screening.decision),
            *(Screening.page, HAS_REPORT.label("has_report")),
            *(Model.negative, Model.positive),
        )
        .select_from(Film)
        .join(Screening, Screening.id == newest.correlate(Film).scalar_subquery())
        .join(Model, Model.id == Screening.model_id)
        .where(Film.patient_key == patient_key, Film.sha256 != (sha256 or ""))
        .order_by(Film.id.desc())
        .limit(MOST)
    )
