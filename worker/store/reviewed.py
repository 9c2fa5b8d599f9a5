"""Answers that readers reviewed, with what they saw: the site's own labelled films."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from models.cards import Card
from worker.records import RECORD_FIELDS, Record
from worker.store.queries import RESULTS
from worker.store.reviews import is_newest
from worker.store.tables import File, Film, Model, Review, Screening


@dataclass(frozen=True)
class ReviewedAnswer:
    """One answer with what its newest review says was seen; `None` when that is unclear.

    `model_id` tells apart weights and everything else that decides. `study_instance_uid` is
    missing where the film is no DICOM file.
    """

    screening_id: int
    model_id: int
    record: Record
    finding: str | None
    study_instance_uid: str | None


def reviewed_answers(engine: Engine) -> Iterator[ReviewedAnswer]:
    """Every answer that was reviewed, the one reviewed last at the end.

    The record is that of the first file with this content.
    """
    first = select(func.min(File.id)).where(File.screening_id == Review.screening_id)
    asked = (
        select(Screening.id, Screening.model_id, Film.study_instance_uid, RESULTS)
        .select_from(Review)
        .join(Screening, Screening.id == Review.screening_id)
        .join(Film, Film.id == Screening.film_id)
        .join(RESULTS, RESULTS.c.file_id == first.scalar_subquery())
        .where(is_newest())
        .order_by(Review.id)
    )
    with engine.connect() as connection:
        for row in connection.execute(asked):
            record = Record(**{name: getattr(row, name) for name in RECORD_FIELDS})
            yield ReviewedAnswer(row.id, row.model_id, record, row.finding, row.study_instance_uid)


def card_and_films(engine: Engine, model_id: int) -> tuple[Card, int]:
    """Card of a model of this site, and how many films it has answered."""
    count = select(func.count()).where(Screening.model_id == model_id)
    with engine.connect() as connection:
        card = connection.execute(select(Model.card).where(Model.id == model_id)).scalar_one()
        return Card.model_validate(card), connection.execute(count).scalar_one()
