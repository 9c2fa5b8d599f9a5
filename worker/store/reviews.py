"""What readers say of answers. Nothing is changed or taken back: the newest review counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Engine, Row, Select, func, insert, select
from sqlalchemy.orm import aliased

from worker.records import Labels, Role, role_of
from worker.store.lists import mark_reports_due
from worker.store.tables import Review as ReviewRow

Verdict = Literal["agree", "disagree", "unclear"]


@dataclass(frozen=True)
class Review:
    """One reader's opinion of one answer.

    `finding` is a label of its model, `None` when unclear.
    """

    screening_id: int
    verdict: Verdict
    finding: str | None
    note: str
    reviewer: str
    reviewed_at: datetime


def finding_of(decision: str, verdict: Verdict, labels: Labels, seen: str | None) -> str | None:
    """What the reader saw, in the words of the model.

    A verdict on one of the two labels says it. Where the model did not answer, agreeing says only
    that a human had to look: there `seen` says it, if the reader wished to.
    Raises ValueError when `seen` contradicts the verdict, or is no label.
    """
    if seen is not None and seen not in labels:
        raise ValueError(f"{seen!r} is none of the model's labels: {', '.join(labels)}")
    if role_of(decision, labels) not in (Role.POSITIVE, Role.NEGATIVE):
        implied = None if verdict == "unclear" else seen
    elif verdict == "unclear":
        implied = None
    elif verdict == "agree":
        implied = decision
    else:
        implied = labels[0] if decision == labels[1] else labels[1]
    if seen is not None and seen != implied:
        raise ValueError(f"'{verdict}' on {decision} does not fit the finding {seen}")
    return implied


def add_review(engine: Engine, review: Review) -> None:
    """Keep one review; pages that show the answer are due with it."""
    with engine.begin() as connection:
        connection.execute(insert(ReviewRow).values(vars(review)))
        mark_reports_due(connection, [review.screening_id])


def reviews_of(engine: Engine, screening_id: int) -> list[Review]:
    """All reviews of one answer, newest first."""
    asked = _asked().where(ReviewRow.screening_id == screening_id).order_by(ReviewRow.id.desc())
    with engine.connect() as connection:
        return [_review(row) for row in connection.execute(asked)]


def latest_reviews(engine: Engine) -> Iterator[Review]:
    """The newest review of each answer that has one, newest last."""
    asked = _asked().where(is_newest()).order_by(ReviewRow.id)
    with engine.connect() as connection:
        yield from (_review(row) for row in connection.execute(asked))


def newest_reviews(verdict: Verdict) -> Select[int]:
    """Answers (their numbers) of which the newest review says this, as a part of a question."""
    return select(ReviewRow.screening_id).where(ReviewRow.verdict == verdict, is_newest())


def is_newest() -> ColumnElement[bool]:
    """Condition on a row of `reviews`: that of its answer which counts."""
    newer = aliased(ReviewRow)
    newest = select(func.max(newer.id)).where(newer.screening_id == ReviewRow.screening_id)
    return ReviewRow.id == newest.scalar_subquery()


def _asked() -> Select[int, str, str | None, str, str, datetime]:
    return select(
        ReviewRow.screening_id,
        ReviewRow.verdict,
        ReviewRow.finding,
        ReviewRow.note,
        ReviewRow.reviewer,
        ReviewRow.reviewed_at,
    )


def _review(row: Row[int, str, str | None, str, str, datetime]) -> Review:
    return Review(*row)  # type: ignore[arg-type]  # the database checks the verdict
