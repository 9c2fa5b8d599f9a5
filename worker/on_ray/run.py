"""The run of a backfill on a cluster: recorded by its driver, which is a worker without films."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Engine

from worker.cluster.keeper import Keeper
from worker.config import Config
from worker.errors import ScreenError
from worker.on_ray.screening import Facts
from worker.report.site import write_worklist
from worker.store.leases import Holder
from worker.store.work import begin_recovery, begin_run, end_run, register_model
from worker.store.workers import (
    end_runs_of_the_dead,
    end_worker,
    register_worker,
)

log = logging.getLogger(__name__)


@dataclass
class Driver:
    """The driver in the database: it lives, and takes back what died in others' hands."""

    config: Config
    engine: Engine
    worker_id: int
    stack: ExitStack = field(default_factory=ExitStack)
    run_id: int | None = None
    alive: Callable[[], None] = lambda: None

    def begin(self, facts: Facts, actors: int, source: str) -> tuple[int, int]:
        """Record the start of the run; gives (run id, model id)."""
        now = datetime.now(UTC)
        model_id = register_model(self.engine, facts.card, facts.preprocessing, now)
        self.run_id = begin_run(
            self.engine,
            kind="backfill",
            source=source,
            model_id=model_id,
            device=f"{actors} × {facts.device}, Ray",
            precision=facts.precision,
            now=now,
            worker_id=self.worker_id,
        )
        lease_s = self.config.cluster.lease_s
        holder = Holder(self.worker_id, self.run_id, model_id, lease_s)
        self.alive = self.stack.enter_context(Keeper(self.engine, holder)).alive
        end_runs_of_the_dead(self.engine, lease_s, now)
        return self.run_id, model_id

    def end(self) -> None:
        """The run ended in order: no film in its hands is to blame."""
        if self.run_id is not None:
            end_run(self.engine, self.run_id, datetime.now(UTC))
        end_worker(self.engine, self.worker_id)


@contextmanager
def driving(config: Config, engine: Engine) -> Iterator[Driver]:
    """Be the driver of a run. The worklist is written when it comes to its end.

    To be called by the only backfill: what one on a single host had in hand when it died waits
    again. An error of the program leaves the run open, as its death would.
    """
    if died := begin_recovery(engine, crashed=False):
        log.warning("a backfill before died, its films are tried again", extra={"count": died})
    driver = Driver(config, engine, register_worker(engine, socket.gethostname(), os.getpid()))
    with driver.stack:
        try:
            yield driver
        except (ScreenError, OSError, KeyboardInterrupt):
            driver.end()
            raise
        driver.end()
    write_worklist(config.site, engine, datetime.now(UTC))  # its run has ended
