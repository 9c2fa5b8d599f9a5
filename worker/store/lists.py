"""Which pages of `reports/results/` are due: each lists the results of 1,000 consecutive files.

Whoever changes what stands there says so in the same transaction; whoever writes a page takes it
off the list afterwards, unless it became due again meanwhile. So the work of a write depends on
what changed, never on how many results there are.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, bindparam, delete, literal, select
from sqlalchemy.dialects.sqlite import insert

from worker.store.tables import DueList, File

LIST_FILES = 1000


@dataclass(frozen=True)
class Due:
    """A page that is due: it holds the files from `block` × 1,000 on; `times` tells changes."""

    block: int
    times: int


def mark_due(connection: Connection, files: Iterable[int]) -> None:
    """The results of these files change with this transaction."""
    _mark(connection, {file // LIST_FILES for file in files})


def mark_reports_due(connection: Connection, screenings: Collection[int]) -> None:
    """The reports of these screenings, at most 500, come or go with this transaction."""
    asked = select(File.id // LIST_FILES).where(File.screening_id.in_(screenings)).distinct()
    _mark(connection, set(connection.scalars(asked)))


def _mark(connection: Connection, blocks: set[int]) -> None:
    if blocks:
        again = {"times": DueList.times + 1}
        due = insert(DueList).on_conflict_do_update(index_elements=["block"], set_=again)
        connection.execute(due, [{"block": block, "times": 1} for block in sorted(blocks)])


def mark_all_due(engine: Engine) -> None:
    """Every page is to be written anew."""
    with engine.begin() as connection:
        connection.execute(delete(DueList))
        blocks = select(File.id // LIST_FILES, literal(1)).distinct()
        connection.execute(insert(DueList).from_select(["block", "times"], blocks))


def due_lists(engine: Engine) -> list[Due]:
    """Pages that are due, in order."""
    with engine.connect() as connection:
        asked = select(DueList.block, DueList.times).order_by(DueList.block)
        return [Due(*row) for row in connection.execute(asked)]


def lists_written(engine: Engine, written: Iterable[Due]) -> None:
    """These pages are true again, but for what changed since they were said to be due."""
    rows = [{"a_block": each.block, "a_times": each.times} for each in written]
    if rows:
        same = (DueList.block == bindparam("a_block")) & (DueList.times == bindparam("a_times"))
        with engine.begin() as connection:
            connection.execute(delete(DueList).where(same), rows)
