"""Pages from the database again: `screen report`."""

import sys
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.completion import complete_run
from worker.cli.options import chosen_config, config_option, stoppable

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.config import Config
    from worker.progress import Tell

_RESULT_PAGES = 100  # of reports/results/ in one go


@click.command()
@click.argument("run", type=int, required=False, shell_complete=complete_run)
@click.option("--open", "open_it", is_flag=True, help="Open the worklist in the browser.")
@config_option
def report(run: int | None, open_it: bool, config_file: Path | None) -> None:
    """Render the pages again from the database: all, or those of one RUN; then the worklist.

    \b
    Examples:
      screen report --open
      screen report 12
    """
    from worker.cli.progress import told
    from worker.report.site import render_again, render_runs, write_worklist
    from worker.store.database import open_database, require_current
    from worker.store.lists import mark_all_due
    from worker.store.queries import screening_ids
    from worker.store.runs import knows_run

    config = chosen_config(config_file).require_site()
    engine = open_database(config.database)
    stopped = "the pages rendered so far stand; the same command renders all again"
    try:
        require_current(engine)
        if run is not None and not knows_run(engine, run):
            raise click.UsageError(f"there is no run {run}: 'screen status' shows the last ones")
        ids = [screening_id for screening_id, *_ in screening_ids(engine, run)]
        with stoppable(lambda: stopped), told() as tell:
            rendered = count(1)
            without = render_again(
                config.site,
                engine,
                ids,
                lambda: tell("pages", next(rendered), len(ids), "page"),
                identity=config.dicom.identity,
            )
            render_runs(config.site, engine, datetime.now(UTC), run)
            mark_all_due(engine)
            page = write_worklist(config.site, engine, datetime.now(UTC), at_most=_RESULT_PAGES)
            _write_result_pages(config, engine, tell)
    finally:
        engine.dispose()
    click.echo(f"rendered {len(ids) - len(without)} pages")
    if without:
        click.echo(f"screen: {len(without)} pages lack their picture and were left", err=True)
    click.echo(page)
    if open_it and click.launch(page.as_uri()):
        click.echo("screen: no browser could be started: open the page by hand", err=True)
        sys.exit(1)


def _write_result_pages(config: "Config", engine: "Engine", tell: "Tell") -> None:
    """In pieces: a daemon writes its worklist between them."""
    from worker.report.site import pages_due, write_worklist
    from worker.store.lists import lists

    due, done = sum(each.due for each in lists(engine)), 0
    while pages_due(config.site, engine):
        tell("result pages", done, due, "page")
        write_worklist(config.site, engine, datetime.now(UTC), at_most=_RESULT_PAGES)
        done += _RESULT_PAGES
