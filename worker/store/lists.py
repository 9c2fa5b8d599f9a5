"""The pages of `reports/results/`: each lists the results of 1,000 consecutive files.

Whoever changes what stands there counts it in the same transaction; whoever writes a page says how
much of that it holds. So the work of a write depends on what changed, never on how many results
there are.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, bindparam, literal, select, update
from sqlalchemy.dialects.sqlite import insert

from worker.store.tables import File, ResultList

LIST_FILES = 1000


@dataclass(frozen=True)
class List:
    """One page: the files from `block` × 1,000 on, and what stands on it as it was written last."""

    block: int
    changes: int
    written: int
    results: int
    first_at: datetime | None
    last_at: datetime | None

    @property
    def due(self) -> bool:
        """Whether the page is not true any more, or not there yet."""
        return self.written < self.changes


@dataclass(frozen=True)
class Written:
    """What a page holds that was just written; `changes` as they were before it was read."""

    block: int
    changes: int
    results: int
    first_at: datetime | None
    last_at: datetime | None


def mark_due(connection: Connection, files: Iterable[int]) -> None:
    """The results of these files change with this transaction."""
    _mark(connection, {file // LIST_FILES for file in files})


def mark_reports_due(connection: Connection, screenings: Collection[int]) -> None:
    """The reports of these screenings, at most 1,024, come or go with this transaction."""
    asked = select(File.id // LIST_FILES).where(File.screening_id.in_(screenings)).distinct()
    _mark(connection, set(connection.scalars(asked)))


def _mark(connection: Connection, blocks: set[int]) -> None:
    if blocks:
        new = insert(ResultList)
        again = {"changes": ResultList.changes + 1}
        connection.execute(
            new.on_conflict_do_update(index_elements=["block"], set_=again),
            [{"block": block, "changes": 1} for block in sorted(blocks)],
        )


def mark_all_due(engine: Engine) -> None:
    """Every page is to be written anew."""
    values = [literal(1), literal(0), literal(0)]
    blocks = select(File.id // LIST_FILES, *values).where(literal(True)).distinct()
    new = insert(ResultList).from_select(["block", "changes", "written", "results"], blocks)
    with engine.begin() as connection:
        connection.execute(new.on_conflict_do_nothing())
        connection.execute(update(ResultList).values(changes=ResultList.written + 1))


def lists(engine: Engine) -> list[List]:
    """All pages, in order."""
    columns = (ResultList.block, ResultList.changes, ResultList.written, ResultList.results)
    asked = select(*columns, ResultList.first_at, ResultList.last_at).order_by(ResultList.block)
    with engine.connect() as connection:
        return [List(*row) for row in connection.execute(asked)]


def keep_written(engine: Engine, written: Sequence[Written]) -> None:
    """Remember what these pages hold now."""
    if written:
        rows = [
            {
                "its_block": each.block,
                "written": each.changes,
                "results": each.results,
                "first_at": each.first_at,
                "last_at": each.last_at,
            }
            for each in written
        ]
        same = update(ResultList).where(ResultList.block == bindparam("its_block"))
        with engine.begin() as connection:
            connection.execute(same, rows)
