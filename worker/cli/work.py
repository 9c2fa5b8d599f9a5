"""Commands that screen into a site: `screen watch`, `screen backfill`."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import ARCHIVE, Stopped, Unlisted, chosen_config, config_option, stoppable
from worker.errors import ScreenError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.cli.tally import Tally
    from worker.config import Config
    from worker.intake.archive import Archive
    from worker.intake.inbox import Look
    from worker.report.eyes import Reports
    from worker.screening import Screener
    from worker.store.archives import Listing
    from worker.store.outcomes import Outcome

SAME_AGAIN = "nothing is lost: the same command goes on where this one stopped"

log = logging.getLogger(__name__)


@contextmanager
def _run(
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


def _say_unsent(count: int) -> None:
    if count:
        click.echo(f"screen: {count} answers wait to be sent: 'screen send'", err=True)


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
    from worker.interop.answering import answer_all, answering
    from worker.marks import require_this_site
    from worker.pipeline import Pipeline
    from worker.shelves import Shelves
    from worker.site import hold_site
    from worker.store.counts import counts_by_decision

    config = chosen_config(config_file)
    if not config.database.is_file:
        from worker.cli.members import watch_with_others

        watch_with_others(config, once)
        return
    with (
        stoppable(lambda: SAME_AGAIN),
        hold_site(config) as engine,
        closing(screener_of(config, engine)) as screener,
        _run(engine, config, screener, "watch", "inbox") as (run_id, model_id),
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
        look = daemon.drain()
        answer_all(engine, config, check)
        waiting = send_once(engine, config, lambda: daemon.stopped)
        failed = counts_by_decision(engine, run_id)["failed"]
    end_of_once(look, waiting, failed, stopped=daemon.stopped, by_hand=signal.SIGINT in caught)


def stop_by_signals(stop: Callable[[], None]) -> list[int]:
    """Have SIGTERM and SIGINT call `stop`; what is returned grows by those that came."""
    caught: list[int] = []

    def noted(number: int, _frame: object) -> None:
        caught.append(number)
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, noted)
    return caught


def end_of_once(look: "Look", waiting: int, failed: int, *, stopped: bool, by_hand: bool) -> None:
    """Say what `watch --once` left, and exit as it says."""
    left = {"still incomplete": look.incomplete, "cannot be moved, check rights": look.untakable}
    for why, paths in left.items():
        for path in paths:
            click.echo(f"screen: left in the inbox, {why}: {str(path)!r}", err=True)
    _say_unsent(waiting)
    if by_hand:
        raise Stopped(SAME_AGAIN)
    if stopped:
        click.echo("screen: stopped before the inbox was empty: run it again", err=True)
        sys.exit(1)
    if failed:
        _say_failed(failed)
    if failed or any(left.values()):
        sys.exit(3)


def there(config: "Config", engine: "Engine") -> int:
    """How many files wait, in the inbox and in work/."""
    from worker.intake.scan import survey
    from worker.store.counts import waiting_files_count

    return survey(config.site.inbox).files + waiting_files_count(engine, inbox=True)


def _archives(config: "Config", given: tuple[Path | str, ...]) -> "list[Archive]":
    """The archives by what was typed, each once. Raises UsageError, and OSError for stores."""
    from worker.intake.archive import Folder
    from worker.intake.objects import archive_at, require_listable

    found: dict[str, Archive] = {}
    for each in given:
        if isinstance(each, str):
            objects = archive_at(each)
            require_listable(objects)
            found[objects.source] = objects
            continue
        own = [f for f in config.site.folders if each.resolve().is_relative_to(f.resolve())]
        if own:
            raise click.UsageError(f"{each} belongs to this site: backfill takes archives")
        found[Folder(each).source] = Folder(each)
    return list(found.values())


def names_of(archives: "Sequence[Archive]") -> list[str]:
    """The archives as they were named."""
    from worker.folders import display_name
    from worker.intake.archive import Folder

    return [display_name(a.given) if isinstance(a, Folder) else a.source for a in archives]


def _say_resumed(listing: "Listing") -> None:
    from worker.cli.progress import say
    from worker.report.text import printable

    say(
        f"screen: {printable(listing.source)}: going on with the list of "
        f"{listing.listed_at:%Y-%m-%d %H:%M} UTC, {listing.files} files; new and changed files are "
        "found when all is finished, or with --rescan",
        err=True,
    )


def _say_failed(count: int) -> None:
    say = f"screen: {count} files could not be screened, and are kept: 'screen failed list'"
    click.echo(say, err=True)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=ARCHIVE)
@click.option("--limit", type=click.IntRange(1), help="Stop after this many files.")
@click.option("--dry-run", is_flag=True, help="Count the files and end.")
@click.option(
    "--rescan", is_flag=True, help="List the archives anew although some of their files still wait."
)
@click.option(
    "--report",
    type=click.Choice(["all", "positive", "none"]),
    default="all",
    show_default=True,
    help="Which films get page and picture: positive leaves out those that need no eyes.",
)
@click.option(
    "--engine",
    "where",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Screen on this machine, or on a Ray cluster; that needs PostgreSQL.",
)
@click.option(
    "--address",
    default="auto",
    show_default=True,
    help="The Ray cluster: HOST:PORT, auto for that of this machine, or local for one of its own.",
)
@config_option
def backfill(
    paths: tuple[Path | str, ...],
    limit: int | None,
    dry_run: bool,
    rescan: bool,
    report: "Reports",
    where: str,
    address: str,
    config_file: Path | None,
) -> None:
    """Screen the films of archives into the site's database and reports.

    An archive is a folder, or a part of an object store: s3://bucket/prefix (extra s3), or another
    URL that fsspec knows. Archives are only read, never changed. Stop it at any moment: the same
    command goes on where it stopped, and tries again what failed for want of rights, limits or
    decoders. A list of an archive serves until all on it is finished; the run after that, or
    --rescan, finds new and changed files. Exit code 3 says that some files of these archives could
    not be read, now or before, or (on PostgreSQL) that a living cluster still had some in hand.

    --report positive writes pages for positive and INDETERMINATE films, and for chest films that
    were refused because nobody could judge them; 'screen report' makes the others later.

    \b
    Examples:
      screen backfill /archive/2019 --limit 1000
      screen backfill /archive
      screen backfill /archive --rescan
      screen backfill /archive --report positive
      screen backfill s3://films/2019
      screen backfill /archive --engine ray --address head.example:6379
    """
    from worker.backfill import backfill as run_backfill
    from worker.cli.progress import bar, lengthen
    from worker.cli.tally import Tally
    from worker.intake.objects import has_objects
    from worker.interop.answering import answer_all
    from worker.pipeline import Pipeline
    from worker.recovery import tidy
    from worker.report.site import settle_pages
    from worker.site import hold_for_backfill
    from worker.spool import spooling
    from worker.store.failures import standing_failures

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an orderly stop, as Ctrl-C is
    config = chosen_config(config_file).require_site()
    archives = _archives(config, paths)
    unlisted = Unlisted()
    if dry_run:
        total = sum(1 for each in archives for _ in each.files(unlisted))
        click.echo(f"{total} files to look at; nothing was done")
        return
    if where == "ray":
        from worker.cli.on_ray import backfill_on_ray

        ended = backfill_on_ray(
            config,
            archives,
            unlisted,
            _say_resumed,
            address=address,
            limit=limit,
            rescan=rescan,
            reports=report,
        )
        _end_of_backfill(config, *ended, unlisted)
        return
    tally: Tally | None = None

    def stopped() -> str:
        return f"{tally.files if tally else 0} files were finished, {SAME_AGAIN}"

    with (
        stoppable(stopped),
        hold_for_backfill(config) as (engine, check),
        closing(screener_of(config, engine)) as screener,
        _run(engine, config, screener, "backfill", ", ".join(names_of(archives))) as (
            run_id,
            model_id,
        ),
        spooling(config) if has_objects(archives) else nullcontext() as spool,
        bar("", None, "film", leave=True) as shown,
    ):
        tally = Tally(screener.card.labels)

        def advance(files: int, outcomes: "list[Outcome]") -> None:
            tally.add(files, outcomes)
            shown.set_postfix_str(tally.short(), refresh=False)
            shown.update(files)

        tidy(config.site, engine, identity=config.dicom.identity)
        sources = [each.source for each in archives]
        held = _still_held(config, engine, sources, model_id)
        run_backfill(
            engine,
            Pipeline(
                engine,
                screener,
                config,
                run_id=run_id,
                model_id=model_id,
                check=check,
                reports=report,
            ),
            archives,
            run_id=run_id,
            model_id=model_id,
            batch_size=config.batch.size,
            limit=limit,
            advance=advance,
            on_total=lambda files: lengthen(shown, min(files, limit or files)),
            rescan=rescan,
            spool=spool,
            on_error=unlisted,
            on_resume=_say_resumed,
        )
        settle_pages(config.site, engine)
        answer_all(engine, config, check)
        waiting = send_once(engine, config)
        failed = standing_failures(engine, sources, model_id)
    _end_of_backfill(config, tally, waiting, failed, unlisted, held=held)


def _still_held(config: "Config", engine: "Engine", sources: list[str], model_id: int) -> int:
    """Wait for what dead actors of a cluster held; how many files living ones still hold."""
    if config.database.is_file:
        return 0
    from worker.cluster.keeper import await_the_dead

    return await_the_dead(engine, sources, model_id, config.cluster.lease_s)


def _end_of_backfill(
    config: "Config",
    tally: "Tally",
    waiting: int,
    failed: int,
    unlisted: Unlisted,
    *,
    held: int = 0,
) -> None:
    """Say what became of the files, and exit as it says."""
    from worker.report.site import INDEX

    click.echo(tally)
    click.echo(f"report: {config.site.reports / INDEX}")
    _say_unsent(waiting)
    if failed:
        _say_failed(failed)
    if held:
        say = f"screen: {held} files were in the hands of a cluster: run this again when it ends"
        click.echo(say, err=True)
    if failed or held or unlisted.folders:
        sys.exit(3)
