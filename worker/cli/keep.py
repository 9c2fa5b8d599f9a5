"""`screen prune`: retention by hand, or a look at what it would remove."""

from datetime import UTC, datetime
from pathlib import Path

import click

from worker.cli.options import chosen_config, config_option, stoppable


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@config_option
def prune(dry_run: bool, config_file: Path | None) -> None:
    """Remove films in done/ and reports as [retention] says; the worker does so by itself, hourly.

    Only films that were screened and are still those that the database knows; failed films never.
    Results stay in the database.

    \b
    Examples:
      screen prune --dry-run
      screen prune
    """
    from worker.cli.progress import bar, is_shown
    from worker.marks import require_this_site
    from worker.report.site import RESULT_PAGES, write_worklist
    from worker.retention import plan
    from worker.retention import prune as remove
    from worker.site import read_site
    from worker.store.database import open_database, require_current

    config, now = chosen_config(config_file).require_site(), datetime.now(UTC)
    limits = config.retention
    if not (limits.done_days or limits.reports_days or limits.min_free_gb):
        click.echo("everything is kept for ever: see [retention] in config.toml", err=True)
    if dry_run:
        with read_site(config) as engine:
            found = list(plan(config, engine, now))
        reports = sum(each.of_report for each in found)
        _say("would remove", len(found) - reports, reports, sum(each.size for each in found))
        return
    engine = open_database(config.database)
    try:
        require_current(engine)
        require_this_site(config.site, engine)
        total = sum(1 for _ in plan(config, engine, now)) if is_shown() else 0
        films = reports = size = 0
        with (
            stoppable(lambda: f"{films} films and {reports} reports are removed; run it again"),
            bar("", total, "file") as shown,
        ):
            while (done := remove(config, engine, now)).anything:
                films, reports = films + done.films, reports + done.reports
                size += done.freed_bytes
                shown.update(done.films + done.reports)
        if reports:
            write_worklist(config.site, engine, now, at_most=RESULT_PAGES)
    finally:
        engine.dispose()
    _say("removed", films, reports, size)


def _say(what: str, films: int, reports: int, size: int) -> None:
    click.echo(f"{what} {films} films and {reports} reports, {size / 1e9:.3f} GB")
