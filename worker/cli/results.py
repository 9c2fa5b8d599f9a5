"""Commands that read results: `screen query`, `screen report`."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.options import chosen_config, config_option
from worker.records import RECORD_FIELDS, Decision

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.store.queries import Result

_TABLE_ROWS = 50
_RESULT_PAGES = 100  # of reports/results/ in one go
_FIELDS = (*RECORD_FIELDS, "status", "source", "run", "page", "finished_at")


class _Moment(click.ParamType[datetime]):
    """A day or a moment; without zone it is UTC, as in the database."""

    name = "date"

    def __init__(self, *, end_of_day: bool) -> None:
        self._time = time.max if end_of_day else time.min

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Parse ISO 8601."""
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' is no date such as 2026-11-23 or 2026-11-23T08:00", param, ctx)
        if len(value) == len("2026-11-23"):
            moment = datetime.combine(moment, self._time)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.command()
@click.option(
    "--decision",
    "--label",
    help="Only this one: a label of the model (PNEUMONIA, say), INDETERMINATE or REFUSED.",
)
@click.option("--status", type=click.Choice(["screened", "duplicate", "failed"]))
@click.option("--reason", help="Only this slug.")
@click.option("--since", type=_Moment(end_of_day=False), help="Finished at or after; UTC.")
@click.option("--until", type=_Moment(end_of_day=True), help="Finished at or before; UTC.")
@click.option("--min-probability", type=click.FloatRange(0, 1))
@click.option("--max-probability", type=click.FloatRange(0, 1))
@click.option("--source", help="inbox, or the absolute path of an archive.")
@click.option("--run", type=int, help="Only this run; see screen status.")
@click.option("--limit", type=click.IntRange(1), help="At most this many, newest first.")
@click.option("--json", "form", flag_value="json", help="An array of records on stdout.")
@click.option("--csv", "form", flag_value="csv", help="Records as CSV on stdout.")
@config_option
def query(form: str | None, config_file: Path | None, **wanted: Any) -> None:
    """Ask for results: screened, refused, failed and duplicate files, newest first.

    Newest is what came last; with --since or --until what ended last, by the clock.
    JSON and CSV are not cut short; the table shows 50 rows unless --limit says otherwise.

    \b
    Examples:
      screen query --decision PNEUMONIA --since 2026-11-01
      screen query --min-probability 0.9 --json
      screen query --status failed --csv > failed.csv
    """
    from worker.site import read_site
    from worker.store.queries import Filter, results

    if wanted["since"] and wanted["until"] and wanted["since"] > wanted["until"]:
        raise click.UsageError("--since lies after --until: nothing can lie between them")
    if form is None and wanted["limit"] is None:
        wanted["limit"] = _TABLE_ROWS
    with read_site(chosen_config(config_file).require_site()) as engine:
        if wanted["decision"]:
            wanted["decision"] = _known(wanted["decision"].upper(), engine)
        found = results(engine, Filter(**wanted))
        lines = {"json": _json, "csv": _csv, None: _table}[form](found)
        for line in lines:
            click.echo(line, nl=form != "csv")


def _known(decision: str, engine: "Engine") -> str:
    """The decision, if a model of this site can have given it; else raises UsageError."""
    from worker.store.queries import decisions, latest_card

    known = decisions(engine)
    if decision not in known and latest_card(engine):  # before the first run any may come
        raise click.UsageError(f"--decision '{decision}': there are only {', '.join(known)}")
    return decision


def _fields(result: "Result") -> dict[str, Any]:
    return asdict(result.record) | {
        "status": result.status,
        "source": result.source,
        "run": result.run,
        "page": result.page,
        "finished_at": result.finished_at.isoformat(),
    }


def _json(results: Iterable["Result"]) -> Iterator[str]:
    """A JSON array, written piece by piece."""
    before = "["
    for result in results:
        yield before + json.dumps(_fields(result))
        before = ","
    yield "[]" if before == "[" else "]"


def _csv(results: Iterable["Result"]) -> Iterator[str]:
    from worker.csvtext import csv_line

    yield csv_line(_FIELDS)
    for result in results:
        yield csv_line(_fields(result).values())


def _table(results: Iterable["Result"]) -> Iterator[str]:
    from worker.report.text import printable

    yield f"{'finished (UTC)':<19}  {'run':>4}  {'decision':<13}  {'p':>5}  file"
    nothing = True
    for result in results:
        nothing = False
        record = result.record
        refused = record.decision == Decision.REFUSED  # its score is not validated: JSON has it
        score = "–" if refused else f"{record.probability:.3f}"
        note = f"  ({record.reason})" if record.reason else ""
        again = "  (duplicate)" if result.status == "duplicate" else ""
        yield (
            f"{result.finished_at:%Y-%m-%d %H:%M:%S}  {result.run:>4}  "
            f"{'FAILED' if result.status == 'failed' else record.decision:<13}  {score:>5}  "
            f"{printable(record.file)}{note}{again}"
        )
    if nothing:
        yield "no results; 'screen query --help' shows what can be asked"


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
        without = render_again(config.site, engine, ids, identity=config.dicom.identity)
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
