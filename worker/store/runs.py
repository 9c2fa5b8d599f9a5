"""The runs, what one of them did, for its page, and how scores are spread."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, Select, case, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from models.cards import REFERENCE_BINS, Card
from worker.store.counts import counts_of_runs
from worker.store.dialect import whole
from worker.store.failures import Failing, newest_failures
from worker.store.tables import ENDED, File, Model, Run, Screening

NEWEST = 50_000  # films of a run whose scores and times are looked at: its page is bounded work
FAILURES_SHOWN = 100

Moments = tuple[datetime, datetime]
Spread = dict[str, tuple[int, ...]]


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


@dataclass(frozen=True)
class RunFacts:
    """One run beside its summary.

    `scores` counts the newest films by decision in equal bins of probability, `guard` in bins of
    their guard score. Films were in hand for `busy_s`, in which `busy_files` came to an end: the
    newest ones of the run. `failures` are the newest of `failed` that are still listed.
    """

    card: Card
    preprocessing: str
    worker_version: str
    scores: Spread
    guard: tuple[int, ...]
    busy_s: float
    busy_files: int
    failures: tuple[Failing, ...]
    failed: int


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
    counts = counts_of_runs(engine, [run.id for run, _ in rows])
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


def run_ids(engine: Engine) -> list[int]:
    """Numbers of all runs, in order."""
    with engine.connect() as connection:
        return list(connection.scalars(select(Run.id).order_by(Run.id)))


def run_facts(engine: Engine, run: int) -> RunFacts:
    """Everything a run's page shows. Raises sqlalchemy.exc.NoResultFound when there is none."""
    asked = select(Run, Model).join(Model, Model.id == Run.model_id).where(Run.id == run)
    with Session(engine) as session:
        row, model = session.execute(asked).one()
        session.expunge_all()
    newest = select(Screening.id).where(Screening.run_id == run).order_by(Screening.id.desc())
    mine = Screening.id.in_(newest.limit(NEWEST))
    failures, failed = newest_failures(engine, run, FAILURES_SHOWN)
    busy_s, busy_files = _busy(engine, run, row.started_at)
    return RunFacts(
        card=Card.model_validate(model.card),
        preprocessing=model.preprocessing,
        worker_version=row.worker_version,
        scores=_spread(engine, Screening.probability, mine),
        guard=total(_spread(engine, Screening.guard_score, mine).values()),
        busy_s=busy_s,
        busy_files=busy_files,
        failures=tuple(failures),
        failed=failed,
    )


def score_spread(engine: Engine, card: Card) -> Spread:
    """Count all films that a card's weights answered in its words, by decision and probability."""
    words = (Model.negative == card.labels[0], Model.positive == card.labels[1])
    models = select(Model.id).where(Model.weights_sha256 == card.weights.sha256, *words)
    return _spread(engine, Screening.probability, Screening.model_id.in_(models))


def covered_s(intervals: Iterable[Moments]) -> float:
    """Seconds that at least one of the intervals covers; given by falling end they may overlap."""
    seconds, since = 0.0, None
    for start, end in sorted(intervals, key=lambda each: each[1], reverse=True):
        until = end if since is None else min(end, since)
        if start < until:
            seconds += (until - start).total_seconds()
            since = start
    return seconds


def total(counts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Sum counts bin by bin; of nothing every bin is empty."""
    return tuple(map(sum, zip([0] * REFERENCE_BINS, *counts, strict=True)))


def _busy(engine: Engine, run: int, started_at: datetime) -> tuple[float, int]:
    """How long the run had films in hand, recorded and not at their end; and how many ended."""
    newest = _newest_files(run).subquery()
    asked = (
        select(File.recorded_at, func.max(File.finished_at), func.count())
        .where(File.id.in_(select(newest.c.id)))
        .group_by(File.recorded_at)
    )
    with engine.connect() as connection:
        batches = connection.execute(asked).all()
    spans = [(max(began, started_at), ended) for began, ended, _ in batches if ended]
    return covered_s(spans), sum(count for *_, count in batches)


def _newest_files(run: int) -> Select[int]:
    mine = select(File.id).where(File.run_id == run, File.state.in_(ENDED))
    return mine.order_by(File.id.desc()).limit(NEWEST)


def _spread(
    engine: Engine, score: InstrumentedAttribute[float], which: ColumnElement[bool]
) -> Spread:
    number = whole(score * REFERENCE_BINS)  # as `report.drift.bin_of`
    last = REFERENCE_BINS - 1
    bins = case((number > last, last), else_=number).label("bin")
    asked = select(Screening.decision, bins, func.count()).where(which)
    found: dict[str, list[int]] = {}
    with engine.connect() as connection:
        for decision, at, count in connection.execute(asked.group_by(Screening.decision, bins)):
            found.setdefault(decision, [0] * REFERENCE_BINS)[at] = count
    return {decision: tuple(counts) for decision, counts in found.items()}
