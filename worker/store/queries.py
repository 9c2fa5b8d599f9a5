"""Read results: the view `results` with filters, counts, and single screenings in full."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    Column,
    ColumnElement,
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
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.cards import Card
from worker.intake.found import INBOX
from worker.records import RECORD_FIELDS, RESULT_FIELDS, Decision, Labels, Record, Tags
from worker.store.reviews import Verdict, newest_reviews
from worker.store.tables import ENDED, File, Film, Model, Review, Run, Screening, UtcDateTime

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


@dataclass(frozen=True)
class Result:
    """One file that came to an end; `labels` are the words of the model that was to answer.

    `file_id` numbers files in the order in which they were recorded. `page` is below reports/;
    `None` for failures, and once retention removed it. `report` tells reports apart, removed ones
    too. `resolution` says what became of a failure since. `verdict` and what follows are of the
    newest review of the answer (`store.reviews`).
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


@dataclass(frozen=True)
class RunSummary:
    """One run with its counts: files by decision, `duplicate` and `failed`."""

    run: int
    kind: str
    source: str
    model: str
    device: str
    precision: str
    started_at: datetime
    finished_at: datetime | None
    note: str | None
    counts: dict[str, int]


def results(engine: Engine, wanted: Filter = Filter()) -> Iterator[Result]:
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
    with engine.connect() as connection:
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


def counts_by_decision(engine: Engine, run: int | None = None) -> dict[str, int]:
    """How many screened files per decision, and how many duplicates and failures.

    Every decision that the models, or the model of this run, can give is named.
    """
    if run is not None:
        return _counts_of_runs(engine, [run])[run]
    files = select(File.state, func.count()).group_by(File.state)
    answers = select(Screening.decision, func.count()).group_by(Screening.decision)
    with engine.connect() as connection:
        rows = [*connection.execute(answers), *connection.execute(files)]
    return _named(decisions(engine), {row[0]: row[1] for row in rows})


def _counts_of_runs(engine: Engine, runs: Sequence[int]) -> dict[int, dict[str, int]]:
    """`counts_by_decision` of several runs; each film is screened in the run of its file."""
    files = select(File.run_id, File.state, func.count()).group_by(File.run_id, File.state)
    answers = select(Screening.run_id, Screening.decision, func.count())
    answers = answers.group_by(Screening.run_id, Screening.decision)
    found: dict[int, dict[str, int]] = {run: {} for run in runs}
    with engine.connect() as connection:
        for asked in (
            answers.where(Screening.run_id.in_(runs)),
            files.where(File.run_id.in_(runs)),
        ):
            for run, name, count in connection.execute(asked):
                found[run][name] = count
    return {run: _named(decisions(engine, run), counts) for run, counts in found.items()}


def _named(decisions: list[str], found: dict[str, int]) -> dict[str, int]:
    return {name: found.get(name, 0) for name in (*decisions, "duplicate", "failed")}


def decisions(engine: Engine, run: int | None = None) -> list[str]:
    """Decisions that the models here, or the model of one run, can give; positive ones first.

    Before any model was used they are those of the shipped ones.
    """
    asked = select(Model.positive, Model.negative).order_by(Model.id)
    if run is not None:
        asked = asked.join(Run, Run.model_id == Model.id).where(Run.id == run)
    with engine.connect() as connection:
        labels = connection.execute(asked).all()
    if not labels:
        return list(Decision)
    columns = zip(*labels, strict=True)  # all positive ones, all negative ones
    words = dict.fromkeys(word for column in columns for word in column)
    return [*words, Decision.INDETERMINATE, Decision.REFUSED]


def waiting_files_count(engine: Engine, *, inbox: bool) -> int:
    """How many files of the inbox, or of all archives, still have work to do."""
    mine = File.source == INBOX if inbox else File.source != INBOX
    asked = select(func.count()).where(File.state.in_(("waiting", "attempted")), mine)
    with engine.connect() as connection:
        return connection.execute(asked).scalar_one()


def runs(engine: Engine, limit: int | None = None) -> list[RunSummary]:
    """The runs, newest first."""
    asked = select(Run, Model.name).join(Model, Model.id == Run.model_id)
    return _summaries(engine, asked.order_by(Run.id.desc()).limit(limit))


def run_summary(engine: Engine, run: int) -> RunSummary:
    """One run. Raises ValueError when there is none."""
    asked = select(Run, Model.name).join(Model, Model.id == Run.model_id)
    [found] = _summaries(engine, asked.where(Run.id == run))
    return found


def _summaries(engine: Engine, asked: Select[Run, str]) -> list[RunSummary]:
    with Session(engine) as session:
        rows = session.execute(asked).all()
        session.expunge_all()
    counts = _counts_of_runs(engine, [run.id for run, _ in rows])
    return [
        RunSummary(
            run=run.id,
            kind=run.kind,
            source=run.source,
            model=model,
            device=run.device,
            precision=run.precision,
            started_at=run.started_at,
            finished_at=run.finished_at,
            note=run.note,
            counts=counts[run.id],
        )
        for run, model in rows
    ]


def knows_run(engine: Engine, run: int) -> bool:
    """Whether there was such a run."""
    with engine.connect() as connection:
        return connection.scalar(select(Run.id).where(Run.id == run)) is not None


def latest_card(engine: Engine) -> Card | None:
    """Card of the model of the newest run; `None` before any run."""
    asked = select(Model.card).join(Run, Run.model_id == Model.id).order_by(Run.id.desc()).limit(1)
    with engine.connect() as connection:
        found = connection.execute(asked).scalar()
    return None if found is None else Card.model_validate(found)


def screening_ids(engine: Engine, run: int | None = None) -> list[tuple[int, str, str]]:
    """(id, page, picture) of all screenings, or of one run, whose report is kept."""
    asked = select(Screening.id, Screening.page, Screening.picture).order_by(Screening.id)
    asked = asked.where(Screening.report_removed_at.is_(None))
    if run is not None:
        asked = asked.where(Screening.run_id == run)
    with engine.connect() as connection:
        return [(row.id, row.page, row.picture) for row in connection.execute(asked)]


def pages(engine: Engine) -> Iterator[tuple[int, str]]:
    """(id, page) of all screenings whose report is kept, in order, never all at once."""
    asked = select(Screening.id, Screening.page).where(Screening.report_removed_at.is_(None))
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
