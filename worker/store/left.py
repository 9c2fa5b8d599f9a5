"""Whether anything of some archives is left to do, wherever it is in hand."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Engine, exists, literal_column, or_, select

from worker.store.tables import File


def is_left(engine: Engine, sources: Sequence[str], model_id: int) -> bool:
    """Whether a file of these archives waits for this model, or is in the hands of a worker.

    One question, so that none slips through on its way from one hand to another.
    """
    archives = (File.source.in_(sources), File.model_id == model_id)
    left = or_(*(_any_file(state, *archives) for state in ("waiting", "attempted")))
    with engine.connect() as connection:
        return bool(connection.scalar(select(left)))


def _any_file(state: str, *which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether there is one; the state stands in the question as in the partial indexes."""
    return exists().where(File.state == literal_column(f"'{state}'"), *which)
