"""Read results: the view `results` with filters, counts, and single screenings in full."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    Column,
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
from worker.intake.found import INBOX
from worker.records import RECORD_FIELDS, Decision, Labels, Record, Tags
from worker.store.tables import File, Film, Model, Run, Screening, UtcDateTime

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
)


@dataclass(frozen=True)
class Filter:
    """Which results are asked for; `None` does not restrict. Both ends of ranges included."""

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
    limit: int | None = None


@dataclass(frozen=True)
class Result:
    """One file that came to an end; `labels` are the words of the model that was to answer.

    `page` is below reports/; `None` for failures, and once retention removed it. `report` tells
    reports apart, removed ones too. `resolution` says what became of a failure since.
    """

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

    Newest by the order in which they were recorded: the clock may have jumped.
    """
    asked = select(RESULTS, Model.negative, Model.positive, Screening.page.label("report"))
    asked = asked.join(File, File.id == RESULTS.c.file_id).join(Model, Model.id == File.model_id)
    asked = asked.outerjoin(Screening, Screening.id == File.screening_id)
    asked = _restricted(asked, wanted)
    asked = asked.order_by(RESULTS.c.file_id.desc())
    with engine.connect() as connection:
        for row in connection.execution_options(yield_per=1000).execute(asked.limit(wanted.limit)):
            yield _result(row)


def _restricted(asked: Select[Any], wanted: Filter) -> Select[Any]:
    columns = RESULTS.c
    for name in ("decision", "status", "reason", "source", "run", "sha256"):
        if (value := getattr(wanted, name)) is not None:
            asked = asked.where(columns[name] == value)
    ranges = (
        ("finished_at", wanted.since, wanted.until),
        ("probability", wanted.min_probability, wanted.max_probability),
    )
    for name, low, high in ranges:
        if low is not None:
            asked = asked.where(columns[name] >= low)
        if high is not None:
            asked = asked.where(columns[name] <= high)
    return asked


def _result(row: Row[Any]) -> Result:
    values = {name: getattr(row, name) for name in RECORD_FIELDS}
    return Result(
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
    )


def counts_by_decision(engine: Engine, run: int | None = None) -> dict[str, int]:
    """How many screened files per decision, and how many duplicates and failures.

    Every decision that the models, or the model of this run, can give is named.
    """
    name = func.iif(RESULTS.c.status == "screened", RESULTS.c.decision, RESULTS.c.status)
    asked = select(name, func.count()).group_by(name)
    if run is not None:
        asked = asked.where(RESULTS.c.run == run)
    with engine.connect() as connection:
        found = {str(key): int(count) for key, count in connection.execute(asked)}
    names = [*decisions(engine, run), "duplicate", "failed"]
    return {name: found.get(name, 0) for name in names}


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


def counts_by_state(engine: Engine, *, inbox: bool) -> dict[str, int]:
    """How many files of the inbox, or of all archives, stand in which state."""
    mine = File.source == INBOX if inbox else File.source != INBOX
    with engine.connect() as connection:
        asked = select(File.state, func.count()).where(mine).group_by(File.state)
        return {state: int(count) for state, count in connection.execute(asked)}


def runs(engine: Engine, limit: int | None = None) -> list[RunSummary]:
    """The runs, newest first."""
    asked = select(Run, Model.name).join(Model, Model.id == Run.model_id).order_by(Run.id.desc())
    with Session(engine) as session:
        rows = session.execute(asked.limit(limit)).all()
        session.expunge_all()
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
            counts=counts_by_decision(engine, run.id),
        )
        for run, model in rows
    ]


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
