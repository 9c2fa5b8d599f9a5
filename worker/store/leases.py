"""Leases: files that one of several workers on PostgreSQL screens, and no other meanwhile.

Whoever holds a lease must

- take films by `lease` alone, which counts the attempt: the commit comes before a byte is decoded;
- call `renew` well within `lease_s`, from a thread of its own, and stop when that has failed for
  as long: what it holds is another's then;
- decode a film with `worker_deaths` alone: take it with `alone=True` when it holds nothing else;
- hold no transaction while it decodes and predicts;
- end each film with `worker.store.outcomes.finish`, its `Item` as `lease` gave it. `finish` looks
  at the tokens in the transaction of the results and writes, and returns, only what is still
  held: of the others nothing was written, and nothing may be done with their files;
- call `give_back` for all it still holds when it ends in order, or after trouble.

Who feeds archives to holders records them first (`worker.store.work.record`), and holds the site as
a backfill does (`worker.site.hold_site`): only one records and hands out at a time.

All moments are the database's own: hosts need no common clock. A lease that has run out is still
its holder's until somebody calls `take_back`; from then on its token is worth nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Engine, Select, Update, func, select, update
from sqlalchemy.orm import Session

from worker.failpoints import reach
from worker.intake.found import INBOX
from worker.store.tables import File, Worker
from worker.store.work import Item, item_of

_TOKENS = sa.Sequence("lease_tokens")
_WAITING = File.state == sa.literal_column("'waiting'")  # as the partial indexes say it
_ATTEMPTED = File.state == sa.literal_column("'attempted'")
_NOBODY = {"state": "waiting", "lease_token": None, "lease_until": None}


@dataclass(frozen=True)
class Holder:
    """Who leases, for how long, and which run and model the results will belong to."""

    worker_id: int
    run_id: int
    model_id: int
    lease_s: float


def moment() -> ColumnElement[datetime]:
    """Now by the database's clock, also inside a long transaction, in UTC."""
    return func.timezone("UTC", func.clock_timestamp())


def after(seconds: float) -> ColumnElement[datetime]:
    """A moment so many seconds from now, by the database's clock."""
    return moment() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def lease(
    engine: Engine,
    holder: Holder,
    source: str | None,
    *,
    limit: int,
    site_mark: str | None = None,
    alone: bool = True,
) -> list[Item]:
    """Lease the next waiting files, in the order they came, and count the attempt of each.

    `source` is an archive, `None` for all of them, or the inbox, with the mark of its site. Files
    of archives are those recorded for the holder's model. A film that was in hand when a worker
    died comes quite alone; unless `alone`, nothing comes while such a film is next.
    """
    with Session(engine) as session, session.begin():
        found = session.execute(_next(holder, source, site_mark).limit(limit)).all()
        troubled = next((i for i, row in enumerate(found) if row.worker_deaths), len(found))
        chosen = found[: troubled or int(alone)]
        if not chosen:
            return []
        leased = _attempt(holder).where(File.id.in_([row.id for row in chosen]))
        rows = session.scalars(leased.returning(File))
        items = sorted(map(item_of, rows), key=lambda item: item.id)
    reach("attempt-counted")
    return items


def _next(holder: Holder, source: str | None, site_mark: str | None) -> Select[int, int]:
    """Files that wait, in the order of the index `ix_files_waiting`, and of no other.

    By number alone other indexes are in order, too, and the planner may read one of them through
    all the files of an archive.
    """
    asked = select(File.id, File.worker_deaths).where(_WAITING)
    if source == INBOX:
        asked = asked.where(File.site_mark == site_mark)
    else:
        asked = asked.where(File.site_mark.is_(None), File.model_id == holder.model_id)
    if source is not None:
        asked = asked.where(File.source == source)
    asked = asked.order_by(File.source, File.site_mark, File.recorded_at, File.id)
    return asked.with_for_update(skip_locked=True)


def waiting(engine: Engine, site_mark: str, at_most: int) -> int:
    """How many films in the work/ of a site nobody has leased; counted up to a number."""
    asked = select(File.id).where(_WAITING, File.source == INBOX, File.site_mark == site_mark)
    with engine.connect() as connection:
        return (
            connection.scalar(select(func.count()).select_from(asked.limit(at_most).subquery()))
            or 0
        )


def unfinished(engine: Engine, site_mark: str) -> int:
    """How many films of a site have not come to their end, whoever has them."""
    asked = select(func.count()).where(_ATTEMPTED, File.site_mark == site_mark)
    with engine.connect() as connection:
        count = connection.scalar(asked) or 0
    return count + waiting(engine, site_mark, 1)


def _attempt(holder: Holder) -> Update:
    return update(File).values(
        state="attempted",
        attempts=File.attempts + 1,
        run_id=holder.run_id,
        model_id=holder.model_id,
        worker_id=holder.worker_id,
        lease_token=_TOKENS.next_value(),
        lease_until=after(holder.lease_s),
    )


def renew(engine: Engine, holder: Holder) -> int:
    """Hold all that is in the worker's hands for another `lease_s`, and say that it lives.

    Returns how many files that are. Rows that are just being finished are passed over.
    """
    mine = select(File.id).where(_ATTEMPTED, File.worker_id == holder.worker_id)
    mine = mine.with_for_update(skip_locked=True)
    longer = update(File).where(File.id.in_(mine)).values(lease_until=after(holder.lease_s))
    lives = update(Worker).where(Worker.id == holder.worker_id)
    with engine.begin() as connection:
        connection.execute(lives.values(heartbeat_at=moment(), ended_at=None))
        return connection.execute(longer).rowcount


def give_back(engine: Engine, holder: Holder) -> int:
    """Let all that is in the worker's hands wait again, none to blame; how many files."""
    mine = update(File).where(_ATTEMPTED, File.worker_id == holder.worker_id)
    with engine.begin() as connection:
        return connection.execute(mine.values(_NOBODY)).rowcount


def let_go(engine: Engine, items: Iterable[Item]) -> None:
    """Let some of them wait again, as far as they are still held."""
    with engine.begin() as connection:
        held = still_held(connection, items)
        connection.execute(update(File).where(File.id.in_(held)).values(_NOBODY))


def take_back(engine: Engine) -> int:
    """Let files wait again whose lease ran out: their holder died, was paused, or is cut off.

    They remember it (`worker_deaths`). Returns how many files.
    """
    expired = select(File.id).where(_ATTEMPTED, File.lease_until < moment())
    expired = expired.with_for_update(skip_locked=True)
    again = update(File).where(File.id.in_(expired))
    again = again.values(**_NOBODY, worker_deaths=File.worker_deaths + 1)
    with engine.begin() as connection:
        return connection.execute(again).rowcount


def leased_of(engine: Engine, sources: Sequence[str], model_id: int) -> int:
    """How many files of some archives are in the hands of workers, for this model."""
    asked = select(func.count()).where(_ATTEMPTED, File.lease_token.is_not(None))
    asked = asked.where(File.source.in_(sources), File.model_id == model_id)
    with engine.connect() as connection:
        return connection.scalar(asked) or 0


def take_over(engine: Engine, worker_id: int) -> int:
    """Let the files of a worker that is known to be dead wait again, as `take_back` does."""
    his = update(File).where(_ATTEMPTED, File.worker_id == worker_id)
    again = his.values(**_NOBODY, worker_deaths=File.worker_deaths + 1)
    with engine.begin() as connection:
        return connection.execute(again).rowcount


def adopt(engine: Engine, site_mark: str) -> int:
    """Give a site the films of the inbox that a database of SQLite left behind; how many.

    No other site shared that. What was in hand when its worker died remembers it; here no film of
    the inbox is in hand without a lease.
    """
    unleased = (File.source == INBOX, File.lease_token.is_(None))
    died = update(File).where(_ATTEMPTED, *unleased)
    died = died.values(**_NOBODY, worker_deaths=File.worker_deaths + 1)
    strays = update(File).where(_WAITING, File.source == INBOX, File.site_mark.is_(None))
    with engine.begin() as connection:
        connection.execute(died)
        return connection.execute(strays.values(site_mark=site_mark)).rowcount


def count_crash(engine: Engine, ids: Sequence[int]) -> None:
    """A worker died of itself with these files in hand, whoever has them now."""
    if ids:
        theirs = update(File).where(File.id.in_(ids), File.finished_at.is_(None))
        with engine.begin() as connection:
            connection.execute(theirs.values(worker_crashes=File.worker_crashes + 1))


def still_held(connection: Connection, items: Iterable[Item]) -> set[int]:
    """Which of these files are still leased under their token, to the end of the transaction."""
    pairs = [(item.id, item.token) for item in items]
    mine = select(File.id).where(_ATTEMPTED, sa.tuple_(File.id, File.lease_token).in_(pairs))
    return set(connection.scalars(mine.order_by(File.id).with_for_update()))
