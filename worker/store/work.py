"""Files on their way: recorded when claimed or found, counted before each attempt."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    delete,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from models.cards import Card
from worker import __version__
from worker.errors import FilmError, passing_slugs
from worker.failpoints import reach
from worker.intake.found import Found, found_at
from worker.store.dialect import COUNTED, insert_into, is_server
from worker.store.lists import mark_due
from worker.store.pieces import pieces
from worker.store.tables import CLAIMED, ENDED, Failure, File, Model, Run

_Key = tuple[str, bytes, int, int, str]  # source, place, size, time, claim
_KnownRow = Row[int, str, bytes, int, int, str, str, int, int, int, int]
_INT64 = 2**63 - 1
_ASKED_AT_ONCE = 200  # rows per question: statements have a limit of variables


@dataclass(frozen=True)
class Item:
    """A recorded file: what was found, its row, and what it has been through.

    `token` is that of its lease (`worker.store.leases`), on PostgreSQL.
    """

    id: int
    found: Found
    strikes: int = 0
    worker_deaths: int = 0
    worker_crashes: int = 0
    refused: FilmError | None = None  # why its bytes could not be fetched from where they lie
    token: int | None = None


def register_model(engine: Engine, card: Card, preprocessing: str, now: datetime) -> int:
    """Row of this exact model and preprocessing, made when it is new.

    A card that got its reference later brings it: it decides nothing, and run pages show it.
    """
    key = {"weights_sha256": card.weights.sha256, "preprocessing": preprocessing}
    values = {
        "name": card.name,
        "version": card.version,
        "architecture": card.architecture,
        "negative": card.labels[0],
        "positive": card.labels[1],
        "threshold": card.decision.threshold,
        "guard_threshold": card.guard.threshold,
        "card": card.model_dump(mode="json"),
        "registered_at": now,
    }
    with Session(engine) as session, session.begin():
        row = session.scalar(select(Model).filter_by(**key))
        if row is None:  # another worker may say the same at this moment
            new = insert_into(session.connection(), Model).values(key | values)
            session.execute(new.on_conflict_do_nothing())
            row = session.scalars(select(Model).filter_by(**key)).one()
        elif card.reference:
            row.card = row.card | {"reference": card.reference.model_dump(mode="json")}
        return row.id


def begin_run(
    engine: Engine,
    *,
    kind: str,
    source: str,
    model_id: int,
    device: str,
    precision: str,
    now: datetime,
    worker_id: int | None = None,
) -> int:
    """Record the start of a run; runs that never ended are marked as interrupted.

    Not so those of several workers, which have a `worker_id` (`worker.store.workers`).
    """
    with Session(engine) as session, session.begin():
        if worker_id is None:
            unfinished = update(Run).where(Run.finished_at.is_(None), Run.worker_id.is_(None))
            session.execute(unfinished.values(finished_at=now, note="interrupted"))
        run = Run(
            worker_id=worker_id,
            kind=kind,
            source=source,
            model_id=model_id,
            device=device,
            precision=precision,
            worker_version=__version__,
            started_at=now,
        )
        session.add(run)
        session.flush()
        return run.id


def end_run(engine: Engine, run_id: int, now: datetime) -> None:
    """Record the end of a run that ended in order: no film in its hands is to blame."""
    release(engine, run_id)
    with Session(engine) as session, session.begin():
        session.execute(update(Run).where(Run.id == run_id).values(finished_at=now))


def release(engine: Engine, run_id: int) -> None:
    """Let the files in a run's hands wait again, none to blame: disk or database refused."""
    in_hand = update(File).where(File.run_id == run_id, File.state == "attempted")
    with Session(engine) as session, session.begin():
        session.execute(in_hand.values(state="waiting", lease_token=None, lease_until=None))


def record(
    engine: Engine,
    found: Sequence[Found],
    run_id: int,
    model_id: int,
    now: datetime,
    *,
    site_mark: str | None = None,
) -> list[Item]:
    """Record files in one transaction; return those that still have work to do, in order.

    A file of an archive that was recorded before keeps its row: this is how a backfill resumes.
    If it failed for a reason that may have passed (its rights, a limit), or an operator wants it
    retried, it waits again. A claim that was recorded under another path, by a host that mounts
    the share elsewhere, keeps that row alone. `site_mark` says in whose work/ they lie, where
    several sites share the database.
    """
    if not found:
        return []
    by_key = {_key(each): each for each in found}  # a file that was given twice is one file
    with engine.begin() as connection:
        shared = {"run_id": run_id, "model_id": model_id, "site_mark": site_mark}
        known = _insert_missing(connection, by_key, shared, now)
        new = [each for key, each in by_key.items() if key not in known]
        known |= _known(connection, new, model_id)
        again = wait_again(connection, [row.id for row in known.values() if row.state == "failed"])
    reach("files-recorded")
    return [
        Item(row.id, each, row.strikes, row.worker_deaths, row.worker_crashes)
        for each, row in ((each, known[key]) for key, each in by_key.items() if key in known)
        if row.state not in ENDED or row.id in again
    ]


def record_within(
    connection: Connection, found: Sequence[Found], run_id: int, model_id: int, now: datetime
) -> int:
    """Record files as part of a transaction; how many had been finished before this run.

    Failures stay failures: see `worker.store.archives.try_again`. Where the last of the files is
    new, all are taken for new, and only looked up if they were not.
    """
    shared = {"run_id": run_id, "model_id": model_id}
    by_key = {_key(each): each for each in found}
    again = len(found) - len(by_key)
    all_new = not _known(connection, found[-1:], model_id)
    if all_new and _insert(connection, by_key.values(), shared, now) == len(by_key):
        return again
    known = _insert_missing(connection, by_key, shared, now).values()
    before = [row for row in known if row.state in ENDED and row.run_id != run_id]
    return again + len(before)


def _insert_missing(
    connection: Connection, by_key: dict[_Key, Found], shared: dict[str, Any], now: datetime
) -> dict[_Key, _KnownRow]:
    """Insert the files that have no row yet, with what all share; the rows of the others."""
    known = _known(connection, list(by_key.values()), shared["model_id"])
    new = [each for key, each in by_key.items() if key not in known]
    if new:
        _insert(connection, new, shared, now)
    return {key: known[key] for key in by_key if key in known}


def _insert(
    connection: Connection, found: Iterable[Found], shared: dict[str, Any], now: datetime
) -> int:
    """Insert rows of files, but those that are there; how many."""
    if is_server(connection):  # in any order, two who insert the same could wait for each other
        found = sorted(found, key=lambda each: () if each.claim else _key(each))  # claims have one
    new = insert_into(connection, File).on_conflict_do_nothing()
    rows = [_row(each, now) | shared for each in found]
    return int(connection.execute(new, rows, execution_options=COUNTED).rowcount)


def to_be_tried_again() -> ColumnElement[bool]:
    """Failures that may have passed, or that an operator wants retried."""
    may_pass = Failure.resolution.is_(None) & Failure.reason.in_(passing_slugs())
    return or_(may_pass, Failure.resolution == "retried")


def wait_again(connection: Connection, failed: Sequence[int]) -> set[int]:
    """Forget failures that may have passed, or are to be retried; ids of files that wait again."""
    waits = {"state": "waiting", "finished_at": None, "final_name": None}
    waits |= {"decision": None, "reason": None}
    passed: set[int] = set()
    for some in pieces(failed, _ASKED_AT_ONCE):
        gone = delete(Failure).where(Failure.file_id.in_(some), to_be_tried_again())
        ids = list(connection.scalars(gone.returning(Failure.file_id)))
        if ids:
            connection.execute(update(File).where(File.id.in_(ids)).values(waits))
            mark_due(connection, ids)
        passed.update(ids)
    return passed


def _row(found: Found, now: datetime) -> dict[str, object]:
    return {
        "source": found.source,
        "file": found.file,
        "path": found.place,
        "size": found.size,
        "mtime_ns": _storable(found.mtime_ns),
        "claim": found.claim,
        "state": "waiting",
        "recorded_at": now,
    }


def _key(found: Found) -> _Key:
    mtime_ns = _storable(found.mtime_ns)
    return (found.source, found.place, found.size, mtime_ns, found.claim)


def _storable(mtime_ns: int) -> int:
    """A time as 64 bits can hold it: filesystems know years after 2262, databases do not."""
    return max(-_INT64 - 1, min(mtime_ns, _INT64))


_COLUMNS = (
    *(File.id, File.source, File.path, File.size, File.mtime_ns, File.claim, File.state),
    *(File.strikes, File.worker_deaths, File.worker_crashes, File.run_id),
)


def _known(connection: Connection, found: Sequence[Found], model_id: int) -> dict[_Key, _KnownRow]:
    known: dict[_Key, _KnownRow] = {}
    for some in pieces(found, _ASKED_AT_ONCE):
        sources = {each.source for each in some}
        paths = [each.place for each in some]
        asked = select(*_COLUMNS).where(
            File.source.in_(sources), File.path.in_(paths), File.model_id == model_id
        )
        for row in connection.execute(asked):
            known[row.source, row.path, row.size, row.mtime_ns, row.claim] = row
    return known


def begin_attempt(engine: Engine, items: Iterable[Item], run_id: int, model_id: int) -> None:
    """Count an attempt for each file, before a byte of it is decoded."""
    ids = [item.id for item in items]
    if ids:
        changes = {"state": "attempted", "run_id": run_id, "model_id": model_id}
        counted = update(File).where(File.id.in_(ids))
        with engine.begin() as connection:
            connection.execute(counted.values(attempts=File.attempts + 1, **changes))
        reach("attempt-counted")


def add_strike(engine: Engine, item: Item) -> Item:
    """Count a death of the decoder against a film; return the item with the new count."""
    counted = update(File).where(File.id == item.id)
    if item.token is not None:
        counted = counted.where(File.lease_token == item.token)
    counted = counted.values(strikes=File.strikes + 1).returning(File.strikes)
    with engine.begin() as connection:
        strikes = connection.execute(counted).scalar()
    if strikes is None:  # its lease was lost: whoever has it counts for itself
        strikes = item.strikes + 1
    item = replace(item, strikes=strikes)
    reach("strike-counted")
    return item


def begin_recovery(engine: Engine, *, crashed: bool) -> int:
    """At start: files in hand when a worker died wait again and remember it; how many.

    `crashed` says that the worker died of itself. A kill or a power loss says nothing of the films.
    Files that are leased are in the hands of other workers.
    """
    died = update(File).where(File.state == "attempted", File.lease_token.is_(None))
    died = died.values(
        state="waiting",
        worker_deaths=File.worker_deaths + 1,
        worker_crashes=File.worker_crashes + int(crashed),
    )
    with engine.begin() as connection:
        count = connection.execute(died).rowcount
    reach("recovery-begun")
    return count


def waiting_files(engine: Engine, source: str) -> list[Item]:
    """Recorded files of a source that still have work to do, in the order they came."""
    asked = select(File).where(File.state == "waiting", File.source == source).order_by(File.id)
    with Session(engine) as session:
        return [item_of(row) for row in session.scalars(asked)]


def claimed_file(engine: Engine, claim: str) -> Item | None:
    """The file that was claimed into this folder of work/; `None` if it was never recorded."""
    asked = select(File).where(File.claim == claim, CLAIMED)  # files of archives have none
    with Session(engine) as session:
        row = session.scalar(asked)
        return None if row is None else item_of(row)


def claimed_files(engine: Engine, claims: Sequence[str]) -> dict[str, tuple[Item, bool]]:
    """Files that were claimed into these folders of work/, by folder, and whether they ended."""
    found: dict[str, tuple[Item, bool]] = {}
    with Session(engine) as session:
        for some in pieces(claims, _ASKED_AT_ONCE):
            for row in session.scalars(select(File).where(File.claim.in_(some), CLAIMED)):
                found[row.claim] = item_of(row), row.finished_at is not None
    return found


def item_of(row: File) -> Item:
    """What a row says of a file on its way."""
    found = found_at(row.source, row.file, row.path, row.size, row.mtime_ns, row.claim)
    counts = (row.strikes, row.worker_deaths, row.worker_crashes)
    token = row.lease_token if row.state == "attempted" else None  # else nobody holds it
    return Item(row.id, found, *counts, token=token)


@dataclass(frozen=True)
class Finished:
    """Where a finished file belongs; `failure` is its sidecar's content, if it failed."""

    final_name: str
    failure: dict[str, object] | None


def finished_file(engine: Engine, file_id: int) -> Finished | None:
    """How a file ended; `None` while it has not."""
    return finished_files(engine, [file_id]).get(file_id)


def finished_files(engine: Engine, ids: Sequence[int]) -> dict[int, Finished]:
    """How files ended, by number; those that have not are left out."""
    finished: dict[int, Finished] = {}
    asked = select(File, Failure).outerjoin(Failure, Failure.file_id == File.id)
    asked = asked.where(File.finished_at.is_not(None))
    with Session(engine) as session:
        for some in pieces(ids, _ASKED_AT_ONCE):
            for row, failure in session.execute(asked.where(File.id.in_(some))):
                facts = None if failure is None else _facts(row, failure)
                name = row.final_name or Path(os.fsdecode(row.path)).name
                finished[row.id] = Finished(name, facts)
    return finished


def rename_finished(
    engine: Engine, file_id: int, final_name: str, *, instead_of: str | None = None
) -> None:
    """Record that a finished file goes by another name, because somebody took the first.

    Only if it goes by `instead_of`, if that is given: another worker may have been quicker.
    """
    renamed = update(File).where(File.id == file_id)
    if instead_of is not None:
        renamed = renamed.where(File.final_name == instead_of)
    with Session(engine) as session, session.begin():
        session.execute(renamed.values(final_name=final_name))


def _facts(row: File, failure: Failure) -> dict[str, object]:
    return {
        "file": row.file,
        "sha256": row.sha256,
        "reason": failure.reason,
        "message": failure.message,
        "failed_at": failure.failed_at.isoformat(),
        "attempts": row.attempts,
        "strikes": row.strikes,
        "run": failure.run_id,
    }
