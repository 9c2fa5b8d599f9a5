"""Screenings without a report on purpose (`screen backfill --report`), and those made later."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Engine, func, select, update

from worker.store.answers import Kind, ask_for, make_possible
from worker.store.lists import mark_reports_due
from worker.store.mark import mark_pages_unsafe
from worker.store.tables import LEFT_OUT, Screening

_AT_ONCE = 500


def left_out_count(engine: Engine) -> int:
    """How many screenings have no report on purpose."""
    asked = select(func.count()).select_from(Screening).where(LEFT_OUT)
    with engine.connect() as connection:
        return connection.scalar(asked) or 0


def left_out(engine: Engine, among: Sequence[int] | None = None) -> Iterator[int]:
    """Screenings without a report on purpose, all or among these; in order, never all at once."""
    asked = select(Screening.id).where(LEFT_OUT)
    asked = asked.order_by(Screening.id).limit(_AT_ONCE)
    if among is not None:
        asked = asked.where(Screening.id.in_(among))
    last = 0
    while True:
        with engine.connect() as connection:
            ids = connection.scalars(asked.where(Screening.id > last)).all()
        if not ids:
            return
        yield from ids
        last = ids[-1]


def keep_made(engine: Engine, ids: Sequence[int], kinds: Sequence[Kind], now: datetime) -> None:
    """These screenings, at most 500, have their pictures now; pages may follow.

    `kinds` of answers in DICOM are asked for that were left out with the report.
    """
    if not ids:
        return
    made = update(Screening).where(Screening.id.in_(ids)).values(report_left_out=False)
    with engine.begin() as connection:
        connection.execute(made)
        mark_pages_unsafe(connection, min(ids))
        ask_for(connection, ids, kinds, now)
        make_possible(connection, ids, now)
        mark_reports_due(connection, ids)
