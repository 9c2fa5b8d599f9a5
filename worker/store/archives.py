"""How far archives were listed into `files`, and what of them still waits.

A list is made in pieces; each piece is committed together with how far it goes, so a list that was
cut off goes on there. Rows are never held in memory as a whole.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from worker.failpoints import reach
from worker.intake.found import Found
from worker.store.tables import WAITS, Archive, Failure, File
from worker.store.work import Item, item_of, record_within, to_be_tried_again, wait_again

_TRIED_AGAIN_AT_ONCE = 500


@dataclass(frozen=True)
class Listing:
    """The list of an archive for one model; whole once it has a `listed_at`.

    `files` are on it so far, the last of them at `listed_to` (`Found.place`), `None` for none.
    """

    id: int
    source: str
    begun_at: datetime
    listed_at: datetime | None
    listed_to: bytes | None
    files: int


def listing(engine: Engine, source: str, model_id: int) -> Listing | None:
    """How far an archive was listed for a model; `None` if it never was."""
    asked = select(Archive).filter_by(source=source, model_id=model_id)
    with Session(engine) as session:
        row = session.scalar(asked)
        return None if row is None else _listing(row)


def begin_listing(engine: Engine, source: str, model_id: int, now: datetime) -> Listing:
    """Begin an archive's list anew; what was recorded of its files stays."""
    asked = select(Archive).filter_by(source=source, model_id=model_id)
    with Session(engine) as session, session.begin():
        row = session.scalar(asked) or Archive(source=source, model_id=model_id)
        row.begun_at, row.listed_at, row.listed_to, row.files = now, None, None, 0
        session.add(row)
        session.flush()
        return _listing(row)


def record_listed(
    engine: Engine,
    listing_id: int,
    found: Sequence[Found],
    *,
    run_id: int,
    model_id: int,
    now: datetime,
    gap: bool = False,
) -> int:
    """Record the next files of a list, in its order; how many were finished before this run.

    Files that were recorded before keep their rows. With a `gap` something before them was left
    out: the list does not get further, and goes on before the gap when it is cut off.
    """
    further = update(Archive).where(Archive.id == listing_id)
    values = {"listed_to": found[-1].place, "files": Archive.files + len(found)}
    with engine.begin() as connection:
        passed = record_within(connection, found, run_id, model_id, now)
        if not gap:
            connection.execute(further.values(values))
    reach("files-recorded")
    return passed


def end_listing(engine: Engine, listing_id: int, now: datetime) -> None:
    """The list is whole."""
    with engine.begin() as connection:
        whole = update(Archive).where(Archive.id == listing_id)
        connection.execute(whole.values(listed_at=now))


def waiting_after(engine: Engine, source: str, model_id: int, after: int, limit: int) -> list[Item]:
    """The next files of an archive that wait for this model, in the order they were recorded."""
    mine = (File.source == source, File.model_id == model_id, File.id > after)
    asked = select(File).where(WAITS, *mine).order_by(File.id).limit(limit)
    with Session(engine) as session:
        return [item_of(row) for row in session.scalars(asked)]


def waiting_count(engine: Engine, source: str, model_id: int) -> int:
    """How many files of an archive wait for this model."""
    mine = (File.source == source, File.model_id == model_id)
    with engine.connect() as connection:
        asked = select(func.count()).select_from(File).where(WAITS, *mine)
        return connection.scalar(asked) or 0


def places_answered(engine: Engine, source: str, model_id: int, limit: int) -> list[Path]:
    """Where the newest films of an archive lay that this model answered."""
    mine = (File.source == source, File.model_id == model_id)
    asked = select(File.path).where(*mine, File.state.in_(("screened", "duplicate")))
    with engine.connect() as connection:
        places = connection.scalars(asked.order_by(File.id.desc()).limit(limit))
        return [Path(os.fsdecode(place)) for place in places]


def try_again(engine: Engine, source: str, model_id: int) -> int:
    """Let those files of an archive wait again whose failure may have passed; gives how many.

    So those that an operator wants retried. In pieces with a transaction each.
    """
    count = 0
    for ids in _to_be_tried_again(engine, source, model_id):
        with engine.begin() as connection:
            count += len(wait_again(connection, ids))
    return count


def _to_be_tried_again(engine: Engine, source: str, model_id: int) -> Iterator[Sequence[int]]:
    mine = (File.source == source, File.model_id == model_id, File.state == "failed")
    asked = select(File.id).join(Failure, Failure.file_id == File.id)
    asked = asked.where(*mine, to_be_tried_again()).order_by(File.id).limit(_TRIED_AGAIN_AT_ONCE)
    last = 0
    while True:
        with engine.connect() as connection:
            ids = connection.scalars(asked.where(File.id > last)).all()
        if not ids:
            return
        yield ids
        last = ids[-1]


def _listing(row: Archive) -> Listing:
    return Listing(row.id, row.source, row.begun_at, row.listed_at, row.listed_to, row.files)
