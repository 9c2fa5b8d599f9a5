"""Screening on a node: an actor that leases films, has them decoded elsewhere and finishes them."""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine

from models.cards import Card
from worker.cluster.keeper import Keeper
from worker.cluster.seat import Seat, seat_taken
from worker.config import Config
from worker.errors import ClusterLost, ScreenError
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.marks import require_this_site
from worker.on_ray.decoding import RemoteDecoders
from worker.on_ray.node import Ground, name, said_by_node
from worker.on_ray.shift import Shift, Stopped
from worker.patience import until_it_works
from worker.report.eyes import Reports
from worker.store.database import open_database, require_current
from worker.store.leases import Holder, give_back
from worker.store.workers import end_worker, register_worker


@dataclass(frozen=True)
class Facts:
    """What an actor says of its screener: who decides, where it runs, what it wants decoded."""

    node: str
    card: Card
    preprocessing: str
    identity: str
    device: str
    precision: str
    settings: PrepareSettings
    limits: DecodeLimits


def require_equal(facts: Facts, identity: str) -> None:
    """Raise ClusterLost for a node that decides otherwise than the first one."""
    if facts.identity != identity:
        raise ClusterLost(
            f"node {facts.node} decides by another model, or by other settings: give all nodes the "
            "same model and thresholds.jsonl"
        )


@dataclass(frozen=True)
class Task:
    """What is to be screened: sources as the manifest names them, for one run and model."""

    run_id: int
    model_id: int
    identity: str
    sources: tuple[str, ...]
    reports: Reports = "all"


class ScreeningActor:
    """One worker among others, on one GPU or one group of cores."""

    def __init__(self, ground: Ground, cores: int) -> None:
        self._ground, self._cores = ground, cores
        self._raylet = os.getppid()
        self._stop = threading.Event()
        self._bench: Bench | None = None

    def ready(self) -> Facts:
        """Look at the node and load the model.

        Raises what ScreenErrors and ModelErrors there are, each with the name of the node.
        """
        with said_by_node():
            bench = self._bench = self._bench or Bench(self._ground, self._cores)
            bench.check()
        screener, decoders = bench.screener, bench.decoders
        return Facts(
            name(),
            screener.card,
            screener.preprocessing,
            screener.identity,
            screener.engine.place,
            screener.engine.precision,
            decoders.settings,
            decoders.limits,
        )

    def work(self, task: Task, decoders: Sequence[Any], films: int, limit: int | None) -> None:
        """Screen what waits, with `films` decoded at once, until told to stop.

        With a limit, until so many were taken or none waits. What disk, share and database refuse
        is waited for. Raises ClusterLost when this node decides otherwise than the task's model.
        """
        require_equal(self.ready(), task.identity)
        bench = cast("Bench", self._bench)
        bench.decoders.use(decoders, films)
        with _seated(bench, task) as (seat, holder, keeper):
            shift = Shift(bench, task, seat, holder, keeper, self._goes_on, limit)
            until_it_works(shift.screen, self._stop)

    def stop(self) -> None:
        """Have `work` give back what it holds and return."""
        self._stop.set()

    def _goes_on(self, pause_s: float) -> bool:
        """Whether to go on, after a pause; not without the raylet: Ray knows us no more then."""
        if os.getppid() != self._raylet:
            raise _Orphaned
        return not self._stop.wait(pause_s)


class _Orphaned(Exception):
    """The node's raylet died, and with it all that Ray knows of this process."""


class Bench:
    """All that an actor screens with; made once a process."""

    def __init__(self, ground: Ground, cores: int) -> None:
        from worker.screening import Screener  # torch is for the actors, not for their driver

        self.config: Config = ground.config()
        ground.require_key(self.config)
        ground.require_stores()
        self.engine: Engine = open_database(self.config.database)
        require_current(self.engine)
        self._marks = require_this_site(self.config.site, self.engine)
        self._archives = ground.archives_here()

        def new_decoders(
            settings: PrepareSettings, limits: DecodeLimits, processes: int
        ) -> RemoteDecoders:
            self.decoders = RemoteDecoders(settings, limits, processes)
            return self.decoders

        self.screener = Screener(
            self.config, keep_patients=True, new_decoders=new_decoders, cores=cores
        )

    def check(self) -> None:
        """Raise ShareGone unless site and archives are those that they were."""
        self._marks()
        self._archives()


@contextmanager
def _seated(bench: Bench, task: Task) -> Iterator[tuple[Seat, Holder, Keeper]]:
    """Be one of the workers of the database; what is in hand at the end waits again.

    An error of the program leaves it to whoever takes the seat next, as a death does.
    """
    with seat_taken(_state(bench.config)) as seat:
        seat.settle_predecessor(bench.engine)
        seat.worker_id = register_worker(bench.engine, socket.gethostname(), os.getpid())
        lease_s = bench.config.cluster.lease_s
        holder = Holder(seat.worker_id, task.run_id, task.model_id, lease_s)
        record = seat.crash
        record.arm()
        try:
            with Keeper(bench.engine, holder) as keeper:
                yield seat, holder, keeper
        except _Orphaned:
            _leave(bench.engine, seat, holder)
            os._exit(1)  # nobody else would end this process
        except (Stopped, ScreenError, OSError) as error:
            _leave(bench.engine, seat, holder)
            if not isinstance(error, Stopped):
                raise
        except BaseException as error:
            record.note(error)
            raise
        else:
            _leave(bench.engine, seat, holder)
        finally:
            record.disarm()


def _state(config: Config) -> Path:
    """Where this host keeps the files of its workers: the site is on a share of all hosts."""
    host = socket.gethostname().partition(".")[0] or "host"
    state = config.local_state
    state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return state.with_name(f"{state.name}-{host}")


def _leave(engine: Engine, seat: Seat, holder: Holder) -> None:
    give_back(engine, holder)
    end_worker(engine, holder.worker_id)
    seat.leave()
