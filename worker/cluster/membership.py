"""Become one of the workers of a database, and stop being one."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from worker.cluster.keeper import Keeper
from worker.cluster.seat import Seat, seat_taken
from worker.config import Config
from worker.errors import ConfigError, ScreenError, SiteBusy
from worker.marks import join_site, require_marks
from worker.site import remembered_mark
from worker.store.leases import Holder, adopt
from worker.store.mark import site_marks
from worker.store.office import Office
from worker.store.work import begin_run, end_run, register_model
from worker.store.workers import (
    end_runs_of_the_dead,
    end_worker,
    living_workers,
    other_models,
    register_worker,
)

if TYPE_CHECKING:  # torch is for whoever makes the screener
    from worker.screening import Screener

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Membership:
    """What makes this process a worker of the site: see the modules named like its parts."""

    holder: Holder
    site_mark: str
    keeper: Keeper
    office: Office
    seat: Seat


@contextmanager
def membership(config: Config, engine: Engine, screener: "Screener") -> Iterator[Membership]:
    """Join the workers of a site for a run of `watch`.

    An error of the program leaves the run and what was in hand, as its death would, to whoever
    takes the seat next. Raises SiteBusy when others decide by another model, ConfigError.
    """
    with seat_taken(config.local_state) as seat:
        died = seat.settle_predecessor(engine)
        if died:
            how = seat.crash.found() or "killed, or the power failed"
            log.warning(
                "the worker before died, its films are tried again: %s", how, extra={"count": died}
            )
        mark = join_site(config.site, engine, remembered_mark(config), datetime.now(UTC))
        adopt(engine, site_marks(engine)[0])
        _require_one_site(config, engine)
        seat.worker_id = register_worker(engine, socket.gethostname(), os.getpid())
        holder = _begin(config, engine, screener, seat.worker_id)
        seat.note([])
        office = Office(engine, holder.worker_id, mark, config.cluster.lease_s)
        with _recorded(seat, engine, holder), Keeper(engine, holder) as keeper:
            try:
                yield Membership(holder, mark, keeper, office, seat)
            finally:
                office.give_up()


def checked(config: Config, engine: Engine, of: Membership) -> Callable[[], None]:
    """What raises unless the site's folders are those that were marked, and leases are kept."""
    marks = {"work": [of.site_mark], "reports": site_marks(engine)}

    def check() -> None:
        require_marks(config.site, marks)
        of.keeper.require_lease()

    return check


def _begin(config: Config, engine: Engine, screener: "Screener", worker_id: int) -> Holder:
    """Begin a run. Raises SiteBusy when other workers decide otherwise."""
    now = datetime.now(UTC)
    model_id = register_model(engine, screener.card, screener.preprocessing, now)
    run_id = begin_run(
        engine,
        kind="watch",
        source="inbox",
        model_id=model_id,
        device=screener.engine.place,
        precision=screener.engine.precision,
        now=now,
        worker_id=worker_id,
    )
    end_runs_of_the_dead(engine, config.cluster.lease_s, now)
    others = other_models(engine, model_id, living_workers(engine, config.cluster.lease_s))
    if others:
        end_run(engine, run_id, now)
        end_worker(engine, worker_id)
        raise SiteBusy(
            f"other workers of this database decide by {others[0]}, or by other settings than "
            f"{screener.card.name} {screener.card.version} here: stop them first, or give all "
            "hosts the same version, model, thresholds.jsonl and [guard]"
        )
    return Holder(worker_id, run_id, model_id, config.cluster.lease_s)


def _require_one_site(config: Config, engine: Engine) -> None:
    """Raise ConfigError where several sites share a database, and one wants answers in DICOM."""
    if config.dicom.results and len(site_marks(engine)) > 1:
        raise ConfigError(
            "dicom.results: answers are made where all workers share one site; here several sites "
            "share the database, and each sees its own films only"
        )


@contextmanager
def _recorded(seat: Seat, engine: Engine, holder: Holder) -> Iterator[None]:
    """End the run when it ends in order, or by what disk, database or user refuse."""
    record = seat.crash
    record.arm()
    try:
        yield
    except (ScreenError, OSError, KeyboardInterrupt):
        _end(seat, engine, holder)
        raise
    except BaseException as error:
        record.note(error)
        raise
    finally:
        record.disarm()
    _end(seat, engine, holder)


def _end(seat: Seat, engine: Engine, holder: Holder) -> None:
    end_run(engine, holder.run_id, datetime.now(UTC))
    end_worker(engine, holder.worker_id)
    seat.leave()
