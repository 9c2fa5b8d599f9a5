"""Which results are asked for, as conditions on files."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import InstrumentedAttribute

from worker.store.reviews import Verdict, newest_reviews
from worker.store.tables import ENDED, File, Review


@dataclass(frozen=True)
class Filter:
    """Which results are asked for; `None` does not restrict. Both ends of ranges included.

    `verdict` is that of the newest review. Failures, which nobody can review, are neither
    `reviewed` nor not.
    """

    decision: str | None = None
    status: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_probability: float | None = None
    max_probability: float | None = None
    source: str | None = None
    run: int | None = None
    sha256: str | None = None
    verdict: Verdict | None = None
    reviewed: bool | None = None
    limit: int | None = None


def restricted(asked: Select[int], wanted: Filter) -> Select[int]:
    """A question about files, with the conditions of a filter but its limit.

    Each condition stands by itself, so that one index can answer it.
    Files that did not come to an end have no decision, reason, probability or moment.
    """
    ranges: tuple[tuple[InstrumentedAttribute[Any], object, object], ...] = (
        (File.finished_at, wanted.since, wanted.until),
        (File.probability, wanted.min_probability, wanted.max_probability),
    )
    ended = False
    for column, low, high in ranges:
        if low is not None:
            asked = asked.where(column >= low)
        if high is not None:
            asked = asked.where(column <= high)
        ended |= (low, high) != (None, None)
    of_results: tuple[tuple[InstrumentedAttribute[Any], object], ...] = (
        (File.decision, wanted.decision),
        (File.state, wanted.status),
        (File.reason, wanted.reason),
    )
    of_files: tuple[tuple[InstrumentedAttribute[Any], object], ...] = (
        (File.source, wanted.source),
        (File.run_id, wanted.run),
        (File.sha256, wanted.sha256),
    )
    for column, value in (*of_results, *of_files):
        if value is not None:
            asked = asked.where(column == value)
    ended |= any(value is not None for _, value in of_results)
    for condition in _of_reviews(wanted):
        asked, ended = asked.where(condition), True
    if ended:
        return asked
    of_some = any(value is not None for _, value in of_files)
    return asked.where(File.state.in_(ENDED) if of_some else File.finished_at.is_not(None))


def _of_reviews(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """Reviewed answers from the few reviews there are; the others by a look for each file."""
    if wanted.verdict is not None:
        yield File.screening_id.in_(newest_reviews(wanted.verdict))
    if wanted.reviewed:
        yield File.screening_id.in_(select(Review.screening_id))
    elif wanted.reviewed is False:
        yield File.screening_id.is_not(None)
        yield ~select(Review.id).where(Review.screening_id == File.screening_id).exists()
