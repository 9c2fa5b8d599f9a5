"""Pages from the database again: `screen report`."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from worker.cli.options import chosen_config, config_option

_RESULT_PAGES = 100  # of reports/results/ in one go


@click.command()
@click.argument("run", type=int, required=False)
@click.option("--open", "open_it", is_flag=True, help="Open the worklist in the browser.")
@config_option
def report(run: int | None, open_it: bool, config_file: Path | None) -> None:
    """Render the pages again from the database: all, or those of one RUN; then the worklist.

    \b
    Examples:
      screen report --open
      screen report 12
    """
    from worker.report.site import render_again, results_due, write_worklist
    from worker.store.database import open_database, require_current
    from worker.store.lists import mark_all_due
    from worker.store.queries import knows_run, screening_ids

    config = chosen_config(config_file).require_site()
    engine = open_database(config.database)
    try:
        require_current(engine)
        if run is not None and not knows_run(engine, run):
            raise click.UsageError(f"there is no run {run}: 'screen status' shows the last ones")
        ids = [screening_id for screening_id, *_ in screening_ids(engine, run)]
        without = render_again(config.site, engine, ids, patient_names=config.report.patient_names)
        mark_all_due(engine)
        page = write_worklist(config.site, engine, datetime.now(UTC), at_most=_RESULT_PAGES)
        while results_due(config.site, engine):  # in pieces: a daemon writes its worklist between
            write_worklist(config.site, engine, datetime.now(UTC), at_most=_RESULT_PAGES)
    finally:
        engine.dispose()
    click.echo(f"rendered {len(ids) - len(without)} pages")
    if without:
        click.echo(f"screen: {len(without)} pages lack their picture and were left", err=True)
    click.echo(page)
    if open_it and click.launch(page.as_uri()):
        click.echo("screen: no browser could be started: open the page by hand", err=True)
        sys.exit(1)
