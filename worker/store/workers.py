"""The workers of a database on a server: each says that it lives; the others see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, Select, func, insert, select, update

from worker.store.leases import after, moment
from worker.store.tables import Model, Run, Worker


@dataclass(frozen=True)
class Member:
    """A worker, by its row; `silent_s` since its last sign of life."""

    id: int
    host: str
    pid: int
    started_at: datetime
    ended_at: datetime | None
    silent_s: float


def register_worker(engine: Engine, host: str, pid: int) -> int:
    """A row for this process, which lives from now on."""
    new = insert(Worker).values(host=host, pid=pid, started_at=moment(), heartbeat_at=moment())
    with engine.begin() as connection:
        return connection.execute(new.returning(Worker.id)).scalar_one()


def end_worker(engine: Engine, worker_id: int) -> None:
    """This worker has ended, in order or found dead; its runs with it."""
    ended = update(Worker).where(Worker.id == worker_id).values(ended_at=moment())
    with engine.begin() as connection:
        connection.execute(ended)


def workers(engine: Engine, newest: int = 100) -> list[Member]:
    """The newest workers, newest first."""
    silent = func.extract("epoch", moment() - Worker.heartbeat_at)
    asked = select(Worker.id, Worker.host, Worker.pid, Worker.started_at, Worker.ended_at, silent)
    with engine.connect() as connection:
        rows = connection.execute(asked.order_by(Worker.id.desc()).limit(newest)).all()
    return [Member(*row[:5], silent_s=float(row[5])) for row in rows]


def living_workers(engine: Engine, lease_s: float) -> list[int]:
    """Workers that gave a sign of life within the length of a lease."""
    with engine.connect() as connection:
        return list(connection.scalars(_living(lease_s).order_by(Worker.id)))


def _living(lease_s: float) -> Select[int]:
    lives = Worker.ended_at.is_(None) & (Worker.heartbeat_at > after(-lease_s))
    return select(Worker.id).where(lives)


def end_runs_of_the_dead(engine: Engine, lease_s: float, now: datetime) -> None:
    """Runs that never ended, of workers that live no more, were interrupted.

    One statement: a worker that has just begun its run is among the living.
    """
    dead = Run.worker_id.is_not(None) & Run.worker_id.not_in(_living(lease_s))
    open_runs = update(Run).where(Run.finished_at.is_(None), dead)
    with engine.begin() as connection:
        connection.execute(open_runs.values(finished_at=now, note="interrupted"))


def other_models(engine: Engine, model_id: int, living: Sequence[int]) -> list[str]:
    """Names of models, with versions, by which living workers watch otherwise than this one.

    A backfill may run by another model: its films are its own.
    """
    asked = select(Model.name, Model.version).join(Run, Run.model_id == Model.id)
    theirs = (Run.kind == "watch", Run.worker_id.in_(living), Run.finished_at.is_(None))
    asked = asked.where(*theirs, Model.id != model_id)
    with engine.connect() as connection:
        return [f"{name} {version}" for name, version in connection.execute(asked.distinct())]
