"""Read results: the view `results` with filters, and single screenings in full."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.orm import Session

from models.cards import Card
from worker.records import RECORD_FIELDS, RESULT_FIELDS, Labels, Record, Tags
from worker.store.dialect import snapshot
from worker.store.filters import Filter, restricted
from worker.store.tables import HAS_REPORT, File, Film, Model, Screening, UtcDateTime

RESULTS = Table(
    "results",
    MetaData(),
    Column("file_id", Integer, primary_key=True),
    *(Column(name, Text) for name in ("file", "sha256", "decision")),
    *(Column(name, Double) for name in ("probability", "threshold")),
    *(Column(name, Double) for name in ("guard_score", "guard_threshold")),
    *(Column(name, Text) for name in ("reason", "message", "model", "weights_sha256")),
    *(Column(name, Text) for name in ("status", "source")),
    Column("run", Integer),
    Column("page", Text),
    Column("finished_at", UtcDateTime),
    Column("resolution", Text),
    Column("page_removed_at", UtcDateTime),
    *(Column(name, Text) for name in ("verdict", "finding", "review_note", "reviewer")),
    Column("reviewed_at", UtcDateTime),
)

_AT_ONCE = 500  # rows in one question: statements have a limit of variables
_ALL = Filter()


@dataclass(frozen=True)
class Result:
    """One file that came to an end; `labels` are the words of the model that was to answer.

    `file_id` numbers files in the order in which they were recorded. `page` is below reports/;
    `None` for failures, where a backfill left it out, and once retention removed it. `report` tells
    reports apart, those that are not there too. `resolution` says what became of a failure since.
    `verdict` and what follows are of the newest review of the answer (`store.reviews`).
    """

    file_id: int
    record: Record
    labels: Labels
    status: str
    source: str
    run: int
    page: str | None
    finished_at: datetime
    report: str | None = None
    page_removed_at: datetime | None = None
    resolution: str | None = None
    verdict: str | None = None
    finding: str | None = None
    review_note: str | None = None
    reviewer: str | None = None
    reviewed_at: datetime | None = None

    @property
    def report_left_out(self) -> bool:
        """Whether a film that was screened has no report on purpose."""
        return self.report is not None and self.page is None and self.page_removed_at is None


def result_values(result: Result) -> list[Any]:
    """What `RESULT_FIELDS` name."""
    known = vars(result) | vars(result.record)
    return [known[name] for name in RESULT_FIELDS]


def result_fields(result: Result) -> dict[str, Any]:
    """A result as scripts read it, moments in ISO 8601; the order of the fields never changes."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in zip(RESULT_FIELDS, result_values(result), strict=True)
    }


@dataclass(frozen=True)
class StoredScreening:
    """One screening with everything its page shows; `files` are all that had this content."""

    record: Record
    card: Card
    evidence: NDArray[np.float32]
    picture: str
    page: str
    format: str
    rows: int
    columns: int
    tags: Tags
    notes: tuple[str, ...]
    run: int
    screened_at: datetime
    files: tuple[str, ...]


def results(engine: Engine, wanted: Filter = _ALL) -> Iterator[Result]:
    """Files that came to an end, newest first, as the filter asks.

    Newest by the order in which they were recorded: the clock may have jumped. Where moments are
    asked for, newest by the clock.
    """
    chosen = restricted(select(File.id), wanted)
    if (wanted.since, wanted.until) != (None, None):
        chosen = chosen.order_by(File.finished_at.desc())
    elif (wanted.min_probability, wanted.max_probability) != (None, None):
        # Sorting what the index of probabilities gives costs 50 ms for a million files. A walk
        # from the newest on, which this sum forbids, costs ten times that when few are found.
        chosen = chosen.order_by((File.id + 0).desc())
    yield from results_of(engine, chosen.order_by(File.id.desc()).limit(wanted.limit))


def results_of(engine: Engine, chosen: Select[int]) -> Iterator[Result]:
    """Results of the files whose numbers `chosen` finds, in its order.

    First the files, by indexes alone; then what else there is to say, of these only.
    """
    with snapshot(engine) as connection:
        found = connection.execution_options(yield_per=_AT_ONCE).execute(chosen)
        for ids in found.scalars().partitions():
            in_full = _in_full(connection, ids)
            yield from (in_full[number] for number in ids)


def results_in(engine: Engine, first: int, last: int) -> list[Result]:
    """Results of the files with these numbers and all between, in order."""
    chosen = select(File.id).where(File.id.between(first, last), File.finished_at.is_not(None))
    return list(results_of(engine, chosen.order_by(File.id)))


def _in_full(connection: Connection, ids: Sequence[int]) -> dict[int, Result]:
    asked = select(RESULTS, Model.negative, Model.positive, Screening.page.label("report"))
    asked = asked.join(File, File.id == RESULTS.c.file_id).join(Model, Model.id == File.model_id)
    asked = asked.outerjoin(Screening, Screening.id == File.screening_id)
    rows = connection.execute(asked.where(RESULTS.c.file_id.in_(ids)))
    return {row.file_id: _result(row) for row in rows}


def _result(row: Row[Any]) -> Result:
    values = {name: getattr(row, name) for name in RECORD_FIELDS}
    return Result(
        file_id=row.file_id,
        record=Record(**values),
        labels=(row.negative, row.positive),
        status=row.status,
        source=row.source,
        run=row.run,
        page=row.page,
        finished_at=row.finished_at,
        report=row.report,
        page_removed_at=row.page_removed_at,
        resolution=row.resolution,
        verdict=row.verdict,
        finding=row.finding,
        review_note=row.review_note,
        reviewer=row.reviewer,
        reviewed_at=row.reviewed_at,
    )


def screening_ids(engine: Engine, run: int | None = None) -> list[tuple[int, str, str]]:
    """(id, page, picture) of all screenings, or of one run, that have a report."""
    asked = select(Screening.id, Screening.page, Screening.picture).order_by(Screening.id)
    asked = asked.where(HAS_REPORT)
    if run is not None:
        asked = asked.where(Screening.run_id == run)
    with engine.connect() as connection:
        return [(row.id, row.page, row.picture) for row in connection.execute(asked)]


def pages(engine: Engine) -> Iterator[tuple[int, str]]:
    """(id, page) of all screenings that have a report, in order, never all at once."""
    asked = select(Screening.id, Screening.page).where(HAS_REPORT)
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=1000).execute(asked.order_by(Screening.id))
        yield from ((row.id, row.page) for row in rows)


def newest_screening(engine: Engine) -> int:
    """Number of the newest screening; 0 when there is none."""
    with engine.connect() as connection:
        return connection.scalar(select(func.max(Screening.id))) or 0


def stored_screening(engine: Engine, screening_id: int) -> StoredScreening:
    """One screening, in full. Raises sqlalchemy.exc.NoResultFound when there is none."""
    asked = (
        select(Screening, Film, Model)
        .join(Film, Film.id == Screening.film_id)
        .join(Model, Model.id == Screening.model_id)
        .where(Screening.id == screening_id)
    )
    named = select(File.file).where(File.screening_id == screening_id).order_by(File.id)
    with Session(engine) as session:
        screening, film, model = session.execute(asked).one()
        files = tuple(session.scalars(named))
        return _stored(screening, film, model, files)


def _stored(
    screening: Screening, film: Film, model: Model, files: tuple[str, ...]
) -> StoredScreening:
    shape = (screening.evidence_rows, screening.evidence_columns)
    return StoredScreening(
        record=Record(
            file=files[0],
            sha256=film.sha256,
            decision=screening.decision,
            probability=screening.probability,
            threshold=screening.threshold,
            guard_score=screening.guard_score,
            guard_threshold=screening.guard_threshold,
            reason=screening.reason,
            message=screening.message,
            model=model.name,
            weights_sha256=model.weights_sha256,
        ),
        card=Card.model_validate(model.card),
        evidence=np.frombuffer(screening.evidence, dtype="<f4").reshape(shape).astype(np.float32),
        picture=screening.picture,
        page=screening.page,
        format=film.format,
        rows=film.rows,
        columns=film.columns,
        tags=Tags(**{field.name: getattr(film, field.name) for field in fields(Tags)}),
        notes=tuple(film.notes),
        run=screening.run_id,
        screened_at=screening.screened_at,
        files=files,
    )
