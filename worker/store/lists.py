"""The pages of `reports/results/`: each lists the results of 1,000 consecutive files.

Whoever changes what stands there counts it in the same transaction; whoever writes a page says how
much of that it holds. So the work of a write depends on what changed, never on how many results
there are.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, bindparam, func, literal, select, update

from worker.store.dialect import insert_into
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
    """The results of these files change with this transaction, which locks nothing after this."""
    mark_blocks_due(connection, blocks_of(files))


def mark_reports_due(connection: Connection, screenings: Collection[int]) -> None:
    """The reports of these screenings, at most 1,024, come or go; otherwise as `mark_due`."""
    mark_blocks_due(connection, blocks_of_reports(connection, screenings))


def blocks_of(files: Iterable[int]) -> set[int]:
    """Pages on which these files stand."""
    return {file // LIST_FILES for file in files}


def blocks_of_reports(connection: Connection, screenings: Collection[int]) -> set[int]:
    """Pages on which these screenings, at most 1,024, stand."""
    asked = select(File.id // LIST_FILES).where(File.screening_id.in_(screenings)).distinct()
    return set(connection.scalars(asked))


def mark_blocks_due(connection: Connection, blocks: set[int]) -> None:
    """Count a change of each of these pages: once and last in a transaction, see `postgres`."""
    if blocks:
        new = insert_into(connection, ResultList)
        again = {"changes": ResultList.changes + 1}
        connection.execute(
            new.on_conflict_do_update(index_elements=["block"], set_=again),
            [{"block": block, "changes": 1} for block in sorted(blocks)],
        )


def mark_all_due(engine: Engine) -> None:
    """Every page is to be written anew."""
    values = [literal(1), literal(0), literal(0)]
    blocks = select(File.id // LIST_FILES, *values).where(literal(True)).distinct()
    columns = ["block", "changes", "written", "results"]
    with engine.begin() as connection:
        new = insert_into(connection, ResultList).from_select(columns, blocks)
        connection.execute(new.on_conflict_do_nothing())
        connection.execute(update(ResultList).values(changes=ResultList.changes + 1))


def changes_by(engine: Engine, count: int) -> dict[int, int]:
    """How often something changed on so many consecutive pages, by their number; never less."""
    group = ResultList.block // count
    asked = select(group, func.sum(ResultList.changes)).group_by(group).order_by(group)
    with engine.connect() as connection:
        return {number: int(changes) for number, changes in connection.execute(asked)}


def lists(engine: Engine) -> list[List]:
    """All pages, in order."""
    columns = (ResultList.block, ResultList.changes, ResultList.written, ResultList.results)
    asked = select(*columns, ResultList.first_at, ResultList.last_at).order_by(ResultList.block)
    with engine.connect() as connection:
        return [List(*row) for row in connection.execute(asked)]


def changes_counted(engine: Engine) -> int:
    """A number that grows with every result, whoever wrote it."""
    with engine.connect() as connection:
        return int(connection.scalar(select(func.sum(ResultList.changes))) or 0)


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
