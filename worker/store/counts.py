"""How many files there are: by decision, duplicate, failed, waiting."""

from collections.abc import Sequence

from sqlalchemy import Engine, func, select

from worker.intake.found import INBOX
from worker.records import Decision
from worker.store.tables import File, Model, Run, Screening


def counts_by_decision(engine: Engine, run: int | None = None) -> dict[str, int]:
    """How many screened files per decision, and how many duplicates and failures.

    Every decision that the models, or the model of this run, can give is named.
    """
    if run is not None:
        return counts_of_runs(engine, [run])[run]
    files = select(File.state, func.count()).group_by(File.state)
    answers = select(Screening.decision, func.count()).group_by(Screening.decision)
    with engine.connect() as connection:
        rows = [*connection.execute(answers), *connection.execute(files)]
    return _named(decisions(engine), {row[0]: row[1] for row in rows})


def counts_of_runs(engine: Engine, runs: Sequence[int]) -> dict[int, dict[str, int]]:
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
