"""What `screen watch` and `screen backfill` share: a run in the database, answers, signals."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from worker.errors import ScreenError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.config import Config
    from worker.screening import Screener

SAME_AGAIN = "nothing is lost: the same command goes on where this one stopped"

log = logging.getLogger(__name__)


@contextmanager
def run(
    engine: "Engine", config: "Config", screener: "Screener", kind: str, source: str
) -> Iterator[tuple[int, int]]:
    """Record a run around some work; gives (run id, model id).

    An error of the program leaves the run open, as its death would: the next run then counts it
    against the films in hand. What disk, database or user refuse blames no film.
    """
    from worker.crashes import CrashRecord
    from worker.report.site import RESULT_PAGES, write_worklist
    from worker.store.work import begin_recovery, begin_run, end_run, register_model

    # On PostgreSQL workers that watch have their own beside (`worker.cluster.seat`)
    name = config.local_state if config.database.is_file else f"{config.local_state}-backfill"
    record = CrashRecord(str(name))
    died = begin_recovery(engine, crashed=record.found() is not None)
    if died:
        how = record.found() or "killed, or the power failed"
        log.warning(
            "the worker before died, its films are tried again: %s", how, extra={"count": died}
        )
    model_id = register_model(engine, screener.card, screener.preprocessing, datetime.now(UTC))
    run_id = begin_run(
        engine,
        kind=kind,
        source=source,
        model_id=model_id,
        device=screener.engine.place,
        precision=screener.engine.precision,
        now=datetime.now(UTC),
    )
    record.arm()
    try:
        yield run_id, model_id
    except (ScreenError, OSError, KeyboardInterrupt):
        end_run(engine, run_id, datetime.now(UTC))
        raise
    except BaseException as error:
        record.note(error)
        raise
    finally:
        record.disarm()
    end_run(engine, run_id, datetime.now(UTC))
    at_most = RESULT_PAGES if kind == "watch" else None  # a daemon that stops has little time
    write_worklist(config.site, engine, datetime.now(UTC), at_most=at_most)  # its run has ended


@contextmanager
def sending(
    engine: "Engine", config: "Config", is_ours: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Answers are sent beside what is done within, if this site has a node for them."""
    if not config.dicom.send_to:
        yield
        return
    from worker.interop.send import start_sender

    stop = start_sender(config, engine, is_ours)
    try:
        yield
    finally:
        stop()


def screener_of(config: "Config", engine: "Engine") -> "Screener":
    """The site's screener; says so first when it is about to make another key of patients."""
    from worker.screening import Screener

    warn_of_lost_key(config, engine)
    return Screener(config, keep_patients=True)


def warn_of_lost_key(config: "Config", engine: "Engine") -> None:
    """Say so when another key of patients is about to be made."""
    from worker.identity import KEY_LOST, is_key_there
    from worker.store.previous import has_patients

    is_needed = config.dicom.identity != "off"
    if is_needed and not is_key_there(config.dicom.identity_key_file) and has_patients(engine):
        log.error(KEY_LOST)


def send_once(
    engine: "Engine", config: "Config", stopped: Callable[[], bool] = lambda: False
) -> int:
    """Send what is due, if this site has a node for it; gives how many answers still wait."""
    if not config.dicom.send_to:
        return 0
    from worker.interop.send import try_to_send
    from worker.store.unsent import unsent

    try_to_send(config, engine, stopped)
    return sum(count for _, count in unsent(engine))


def say_unsent(count: int) -> None:
    """Say how many answers in DICOM still wait, if any do."""
    if count:
        click.echo(f"screen: {count} answers wait to be sent: 'screen send'", err=True)


def stop_by_signals(stop: Callable[[], None]) -> list[int]:
    """Have SIGTERM and SIGINT call `stop`; what is returned grows by those that came."""
    caught: list[int] = []

    def noted(number: int, _frame: object) -> None:
        caught.append(number)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, noted)
    return caught


def say_failed(count: int) -> None:
    """Say how many files could not be screened, and where they are named."""
    say = f"screen: {count} files could not be screened, and are kept: 'screen failed list'"
    click.echo(say, err=True)
