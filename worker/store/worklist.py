"""What stands in the worklist: everything, or of a long list the most urgent of each group."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, func, or_, select
from sqlalchemy.orm import aliased

from worker.intake.found import INBOX
from worker.records import Labels, Role, role_of
from worker.store.dialect import snapshot
from worker.store.failures import STANDING
from worker.store.pieces import pieces
from worker.store.queries import Result, results_of
from worker.store.tables import ENDED, Failure, File, Model, Screening

_AT_ONCE = 500  # rows in one question: statements have a limit of variables


@dataclass(frozen=True)
class Counts:
    """How many results there are; `labels` are the words of all models.

    `films` by group: roles of decisions, duplicates left out, and `failed`, failures that stand.
    """

    films: dict[str, int]
    duplicates: int
    results: int
    labels: tuple[Labels, ...]


def worklist_results(engine: Engine) -> Iterator[Result]:
    """Every result but failures that were mended, retried or discarded; newest first."""
    asked = select(File.id).outerjoin(Failure, Failure.file_id == File.id)
    stands = or_(File.state != "failed", and_(STANDING, ~_mended()))
    asked = asked.where(File.finished_at.is_not(None), stands).order_by(File.id.desc())
    return results_of(engine, asked)


def has_more_results(engine: Engine, count: int) -> bool:
    """Whether there are more results than `count`; no more are looked at."""
    some = select(File.id).where(File.state.in_(ENDED)).limit(count + 1).subquery()
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(some)).scalar_one() > count


def worklist_counts(engine: Engine) -> Counts:
    """Count all results by group."""
    answers = select(Screening.model_id, Screening.decision, func.count())
    answers = answers.group_by(Screening.model_id, Screening.decision)
    duplicates = select(func.count()).where(File.state == "duplicate")
    failures = select(func.count()).select_from(Failure)
    films: dict[str, int] = dict.fromkeys((*Role, "failed"), 0)
    with snapshot(engine) as connection:
        labels = _labels(connection)
        for model, decision, count in connection.execute(answers):
            films[role_of(decision, labels[model])] += count
        copies = connection.execute(duplicates).scalar_one()
        results = sum(films.values()) + copies + connection.execute(failures).scalar_one()
        standing = select(func.count()).select_from(_standing().subquery())
        films["failed"] = connection.execute(standing).scalar_one()
    return Counts(films, copies, results, tuple(labels.values()))


def most_urgent(engine: Engine, shares: Mapping[str, int]) -> Iterator[Result]:
    """Of each group as many films as its share says, and duplicates of these, as many at most.

    Those with the highest score where there is an answer, else the newest.
    """
    with snapshot(engine) as connection:
        labels = _labels(connection)
        files = list(connection.scalars(_newest_failures(shares["failed"])))
        for role in Role:
            files += _files(connection, _leaders(connection, role, labels, shares[role]))
    for some in pieces(files, _AT_ONCE):
        yield from results_of(engine, select(File.id).where(File.id.in_(some)))


def _labels(connection: Connection) -> dict[int, Labels]:
    asked = select(Model.id, Model.negative, Model.positive).order_by(Model.id)
    return {row.id: (row.negative, row.positive) for row in connection.execute(asked)}


def _leaders(
    connection: Connection, role: Role, labels: dict[int, Labels], count: int
) -> list[int]:
    """Screenings of a role, most urgent first, by indexes alone."""
    if role == Role.REFUSED:
        asked = select(Screening.id).where(Screening.decision == "REFUSED")
        newest = (Screening.screened_at.desc(), Screening.id.desc())
        return list(connection.scalars(asked.order_by(*newest).limit(count)))
    falling = (Screening.probability.desc(), Screening.id.desc())
    scored = select(Screening.probability, Screening.id).order_by(*falling).limit(count)
    found = [
        connection.execute(
            scored.where(Screening.model_id == model, Screening.decision == _word(role, pair))
        ).all()
        for model, pair in labels.items()
    ]
    urgent = merge(*found, key=lambda row: (row.probability, row.id), reverse=True)
    return [row.id for row in islice(urgent, count)]


def _word(role: Role, labels: Labels) -> str:
    """What a model with these labels says when it means this."""
    words = {Role.NEGATIVE: labels[0], Role.POSITIVE: labels[1]}
    return words.get(role, role.upper())


def _files(connection: Connection, screenings: Sequence[int]) -> list[int]:
    """Their films, and not more duplicates than films."""
    files: list[int] = []
    state = File.state + ""  # else SQLite would read all duplicates by the index of states
    for some in pieces(screenings, _AT_ONCE):
        of_these = select(File.id).where(File.screening_id.in_(some))
        files += connection.scalars(of_these.where(state == "screened"))
        files += connection.scalars(of_these.where(state == "duplicate").limit(len(some)))
    return files


def _newest_failures(count: int) -> Select[int]:
    return _standing().order_by(Failure.file_id.desc()).limit(count)


def _standing() -> Select[int]:
    """Files whose failure stands: nobody decided about it, nor was the file screened since."""
    asked = select(Failure.file_id).join(File, File.id == Failure.file_id)
    return asked.where(STANDING, ~_mended())


def _mended() -> ColumnElement[bool]:
    """Whether a file of an archive came to another end since; one of the inbox is a new film."""
    other = aliased(File)
    same = (other.source == File.source) & (other.path == File.path)
    # Only files that came to an end have a decision. By their numbers or moments (hence the sum)
    # SQLite would read the whole archive for each failure, and not the index of paths.
    since = select(other.id).where(same, other.id + 0 > File.id, other.decision.is_not(None))
    return and_(File.source != INBOX, since.correlate(File).exists())
