"""`screen watch`: screen what is dropped into the inbox."""

import logging
import signal
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from worker.cli.options import Stopped, chosen_config, config_option, stoppable
from worker.cli.running import (
    SAME_AGAIN,
    run,
    say_failed,
    say_unsent,
    screener_of,
    send_once,
    sending,
    stop_by_signals,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.config import Config
    from worker.intake.inbox import Look

log = logging.getLogger(__name__)


@click.command()
@click.option("--once", is_flag=True, help="Work off the inbox and end.")
@config_option
def watch(once: bool, config_file: Path | None) -> None:
    """Watch the inbox and screen what is dropped there, until SIGTERM or Ctrl-C.

    With --once, files that are still being written stay in the inbox and are named on stderr; the
    exit code is 3 then, and when a file could not be read.

    \b
    Examples:
      screen watch
      screen watch --once --config clinic/config.toml
    """
    from worker.cli.progress import Counted, bar
    from worker.daemon import Daemon
    from worker.heartbeat import Heartbeat, pulse_file
    from worker.interop.answering import answering
    from worker.marks import require_this_site
    from worker.pipeline import Pipeline
    from worker.shelves import Shelves
    from worker.site import hold_site

    config = chosen_config(config_file)
    if not config.database.is_file:
        from worker.cli.members import watch_with_others

        watch_with_others(config, once)
        return
    with (
        stoppable(lambda: SAME_AGAIN),
        hold_site(config) as engine,
        closing(screener_of(config, engine)) as screener,
        run(engine, config, screener, "watch", "inbox") as (run_id, model_id),
        bar("", there(config, engine) if once else 0, "film") if once else nullcontext() as shown,
    ):
        check = require_this_site(config.site, engine)
        pulse = Heartbeat(pulse_file(config.local_state), run_id, note=lambda: screener.engine.note)

        def make_pipeline(shelves: Shelves) -> Pipeline:
            return Pipeline(
                engine,
                screener,
                config,
                run_id=run_id,
                model_id=model_id,
                check=check,
                alive=lambda: pulse.beat("working"),
                name_for=shelves.name_for,
            )

        daemon = Daemon(
            engine,
            config,
            make_pipeline,
            run_id=run_id,
            model_id=model_id,
            check=check,
            pulse=pulse if shown is None else Counted(pulse, shown),
        )
        caught = stop_by_signals(daemon.stop)
        if not once:
            with answering(engine, config, check), sending(engine, config):
                daemon.run()
            log.info("stopped; what is not finished waits in inbox/ and work/")
            return
        left = work_off(daemon, engine, config, check, run_id)
    end_of_once(left, stopped=daemon.stopped, by_hand=signal.SIGINT in caught)


class Drains(Protocol):
    """A worker that can work off an inbox: alone, or one of several."""

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""

    def drain(self) -> "Look":
        """Work off the inbox; the last look at it."""


@dataclass(frozen=True)
class Left:
    """What `watch --once` left: its last look, answers that wait, files that failed."""

    look: "Look"
    unsent: int
    failed: int


def work_off(
    worker: Drains, engine: "Engine", config: "Config", check: Callable[[], None], run_id: int
) -> Left:
    """Work off the inbox, and send what is due, as `watch --once` does."""
    from worker.interop.answering import answer_all
    from worker.store.counts import counts_by_decision

    look = worker.drain()
    answer_all(engine, config, check)
    unsent = send_once(engine, config, lambda: worker.stopped)
    return Left(look, unsent, counts_by_decision(engine, run_id)["failed"])


def end_of_once(left: Left, *, stopped: bool, by_hand: bool) -> None:
    """Say what `watch --once` left, and exit as it says."""
    look, failed = left.look, left.failed
    kept = {"still incomplete": look.incomplete, "cannot be moved, check rights": look.untakable}
    for why, paths in kept.items():
        for path in paths:
            click.echo(f"screen: left in the inbox, {why}: {str(path)!r}", err=True)
    say_unsent(left.unsent)
    if by_hand:
        raise Stopped(SAME_AGAIN)
    if stopped:
        click.echo("screen: stopped before the inbox was empty: run it again", err=True)
        sys.exit(1)
    if failed:
        say_failed(failed)
    if failed or any(kept.values()):
        sys.exit(3)


def there(config: "Config", engine: "Engine") -> int:
    """How many files wait, in the inbox and in work/."""
    from worker.intake.scan import survey
    from worker.store.counts import waiting_files_count

    return survey(config.site.inbox).files + waiting_files_count(engine, inbox=True)
