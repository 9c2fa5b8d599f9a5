"""`screen backfill`: screen archives, which are only read."""

import signal
import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import ARCHIVE, Unlisted, chosen_config, config_option, stoppable
from worker.cli.running import SAME_AGAIN, run, say_failed, say_unsent, screener_of, send_once

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.cli.tally import Tally
    from worker.config import Config
    from worker.intake.archive import Archive
    from worker.report.eyes import Reports
    from worker.store.archives import Listing
    from worker.store.outcomes import Outcome


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
        run(engine, config, screener, "backfill", ", ".join(names_of(archives))) as (
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
    say_unsent(waiting)
    if failed:
        say_failed(failed)
    if held:
        say = f"screen: {held} files were in the hands of a cluster: run this again when it ends"
        click.echo(say, err=True)
    if failed or held or unlisted.folders:
        sys.exit(3)
