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
_SHA256_DIGITS = 12  # of a content name it well enough


@click.command()
@click.argument("what", metavar="[RUN|FILE]", required=False, shell_complete=complete_run)
@click.option(
    "--all", "everything", is_flag=True, help="Make every report that a backfill left out."
)
@click.option("--open", "open_it", is_flag=True, help="Open the worklist in the browser.")
@config_option
def report(what: str | None, everything: bool, open_it: bool, config_file: Path | None) -> None:
    """Render the pages again from the database: all, or those of one RUN; then the worklist.

    With a FILE, its name as 'screen query' says it or its SHA-256 (12 digits are enough), or with
    --all, make the reports that 'screen backfill --report' left out: the films are decoded again
    where they lie now, and must have the content that was screened. Exit code 3 says that some
    films cannot be read any more.

    \b
    Examples:
      screen report --open
      screen report 12
      screen report /archive/2019/person7.dcm
      screen report --all
    """
    if what and everything:
        raise click.UsageError("--all makes every report: leave the name away")
    if everything or (what and not _is_run(what)):
        _make_left_out(what, open_it, config_file)
    else:
        _render(int(what) if what else None, open_it, config_file)


def _is_run(what: str) -> bool:
    return what.isdecimal() and len(what) < _SHA256_DIGITS


def _make_left_out(file: str | None, open_it: bool, config_file: Path | None) -> None:
    """Make the reports that were left out: of a file, or all."""
    from worker.cli.progress import told
    from worker.marks import require_this_site
    from worker.remake import make_reports
    from worker.report.site import write_worklist
    from worker.report.text import printable
    from worker.store.answers import screenings_of
    from worker.store.database import open_database, require_current
    from worker.store.leftout import left_out, left_out_count

    config = chosen_config(config_file).require_site()
    engine = open_database(config.database)
    stopped = "the reports made so far stand; the same command makes the others"
    made = count(0)
    try:
        require_current(engine)
        check = require_this_site(config.site, engine)
        among = screenings_of(engine, file) if file else None
        if among == []:
            raise click.UsageError(f"no film {file!r} was screened here")
        total = left_out_count(engine) if among is None else len(among)
        with stoppable(lambda: stopped), told() as tell:
            missing = 0
            for each in make_reports(
                config,
                engine,
                left_out(engine, among),
                check,
                lambda: tell("reports", next(made) + 1, total, "film"),
            ):
                missing += 1
                click.echo(f"screen: {printable(each.file)}: {printable(each.why)}", err=True)
            page = write_worklist(config.site, engine, datetime.now(UTC), at_most=_RESULT_PAGES)
    finally:
        engine.dispose()
    click.echo(f"made {next(made) - missing} reports")
    _show(page, open_it)
    if missing:
        sys.exit(3)


def _render(run: int | None, open_it: bool, config_file: Path | None) -> None:
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
    _show(page, open_it)


def _show(page: Path, open_it: bool) -> None:
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
