"""`screen query`: results by their filters, or by a question in SQL."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli import style
from worker.cli.completion import complete_decision, complete_reason, complete_run
from worker.cli.forms import Row, csv_lines, json_lines, kinds, moment, table_lines
from worker.cli.options import chosen_config, config_option, require_folders, stoppable
from worker.parquet import Kind, require_pyarrow, write_parquet
from worker.records import RESULT_FIELDS, Decision

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.config import Config
    from worker.partitions import By
    from worker.store.queries import Result

_TABLE_ROWS = 50
_NUMBERS = ("probability", "threshold", "guard_score", "guard_threshold")
_MOMENTS = ("finished_at", "reviewed_at")
_KINDS = (
    dict.fromkeys(RESULT_FIELDS, Kind.TEXT)
    | dict.fromkeys(_NUMBERS, Kind.NUMBER)
    | dict.fromkeys(_MOMENTS, Kind.MOMENT)
    | {"run": Kind.INTEGER}
)


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
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"'{value}' is no date such as 2026-11-23 or 2026-11-23T08:00", param, ctx)
        if len(value) == len("2026-11-23"):
            found = datetime.combine(found, self._time)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


@click.command()
@click.option(
    "--decision",
    "--label",
    help="Only this one: a label of the model (PNEUMONIA, say), INDETERMINATE or REFUSED.",
    shell_complete=complete_decision,
)
@click.option("--status", type=click.Choice(["screened", "duplicate", "failed"]))
@click.option("--reason", help="Only this slug.", shell_complete=complete_reason)
@click.option("--since", type=_Moment(end_of_day=False), help="Finished at or after; UTC.")
@click.option("--until", type=_Moment(end_of_day=True), help="Finished at or before; UTC.")
@click.option("--min-probability", type=click.FloatRange(0, 1))
@click.option("--max-probability", type=click.FloatRange(0, 1))
@click.option("--source", help="inbox, or the absolute path of an archive.")
@click.option(
    "--run", type=int, help="Only this run; see screen status.", shell_complete=complete_run
)
@click.option(
    "--verdict",
    type=click.Choice(["agree", "disagree", "unclear"]),
    help="Only answers of which the newest review says so.",
)
@click.option(
    "--reviewed/--not-reviewed",
    default=None,
    help="Only answers that a reader has reviewed, or that none has.",
)
@click.option("--limit", type=click.IntRange(1), help="At most this many, newest first.")
@click.option("--sql", metavar="SELECT", help="A question of your own; - reads it from stdin.")
@click.option("--json", "form", flag_value="json", help="An array of records on stdout.")
@click.option("--csv", "form", flag_value="csv", help="Records as CSV on stdout.")
@click.option(
    "--parquet",
    type=click.Path(writable=True, path_type=Path),
    help="Records as a Parquet file; with --partition-by all of them, as a folder of files.",
)
@click.option(
    "--partition-by",
    type=click.Choice(["block", "month"]),
    help="With --parquet DIR: a file for each 100,000 films, or for those of each month.",
)
@config_option
def query(
    sql: str | None,
    limit: int | None,
    form: str | None,
    parquet: Path | None,
    partition_by: "By | None",
    config_file: Path | None,
    **wanted: Any,
) -> None:
    """Ask for results: screened, refused, failed and duplicate files, newest first.

    Newest is what came last; with --since or --until what ended last, by the clock.
    --sql asks the views of docs/DATABASE.md anything; it reads and cannot change a thing.
    JSON, CSV and Parquet are not cut short; the table shows 50 rows unless --limit says otherwise.

    \b
    Examples:
      screen query --decision PNEUMONIA --since 2026-11-01
      screen query --min-probability 0.9 --json
      screen query --status failed --csv > failed.csv
      screen query --verdict disagree --parquet disagreements.parquet
      screen query --parquet results/ --partition-by month
      screen query --sql "SELECT decision, count(*) FROM latest_results GROUP BY decision"
    """
    if wanted["since"] and wanted["until"] and wanted["since"] > wanted["until"]:
        raise click.UsageError("--since lies after --until: nothing can lie between them")
    filters = [name.replace("_", "-") for name, value in wanted.items() if value is not None]
    is_folder = parquet is not None and (partition_by is not None or parquet.is_dir())
    if partition_by and not parquet:
        raise click.UsageError("--partition-by goes with --parquet DIR")
    if parquet:
        if form:
            raise click.UsageError(f"--parquet and --{form}: ask for one of them")
        require_folders(parquet)
        require_pyarrow()
    config = chosen_config(config_file).require_site()
    if parquet and is_folder:
        given = [*filters, *(["sql"] if sql is not None else []), *(["limit"] if limit else [])]
        if given:
            raise click.UsageError(f"--{given[0]}: a folder holds all results; name a file instead")
        _partitions(config, parquet, partition_by or "block")
    elif sql is not None:
        if filters:
            raise click.UsageError(f"--sql and --{filters[0]}: put the condition into the SQL")
        _sql(config, sys.stdin.read() if sql == "-" else sql, limit, form, parquet)
    else:
        _filtered(config, wanted, limit, form, parquet)


def _filtered(
    config: "Config",
    wanted: dict[str, Any],
    limit: int | None,
    form: str | None,
    parquet: Path | None,
) -> None:
    from worker.site import read_site
    from worker.store.filters import Filter
    from worker.store.queries import result_fields, result_values, results

    if form is None and parquet is None:
        limit = limit or _TABLE_ROWS
    with read_site(config) as engine:
        if wanted["decision"]:
            wanted["decision"] = _known(wanted["decision"].upper(), engine)
        found = results(engine, Filter(**wanted, limit=limit))
        if parquet:
            _write(config, parquet, _KINDS, map(result_values, found))
        elif form:
            _say(form, RESULT_FIELDS, (list(result_fields(one).values()) for one in found))
        else:
            for line in _table(found):
                click.echo(line)


def _partitions(config: "Config", folder: Path, by: "By") -> None:
    from worker.cli.progress import told
    from worker.partitions import export
    from worker.site import read_site

    stopped = "the files written so far stand; the same command writes the others"
    with stoppable(lambda: stopped), read_site(config) as engine, told() as tell:
        done = export(engine, config.site, folder, _KINDS, by=by, tell=tell)
    click.echo(
        f"{done.files} files written with {done.rows} rows, {done.unchanged} blocks as they were"
    )


def _sql(
    config: "Config", sql: str, limit: int | None, form: str | None, parquet: Path | None
) -> None:
    """Answer a question in SQL; for Parquet it is asked twice, for the types and the values."""
    from worker.site import read_site
    from worker.store.sql import ask, reading

    with read_site(config), reading(config.database) as connection:
        answer = ask(connection, sql)
        if parquet:
            columns = kinds(answer.columns, islice(answer.rows, limit))
            again = islice(ask(connection, sql).rows, limit)
            _write(config, parquet, columns, _typed(columns, again))
        elif form:
            _say(form, answer.columns, islice(answer.rows, limit))
        else:
            for line in table_lines(answer.columns, answer.rows, limit or _TABLE_ROWS):
                click.echo(line)


def _say(form: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """To a terminal, CSV says what would command it in escapes; JSON always does."""
    if form == "csv" and sys.stdout.isatty():
        rows = map(_printable, rows)
    sys.stdout.writelines(json_lines(columns, rows) if form == "json" else csv_lines(columns, rows))
    sys.stdout.flush()


def _printable(row: Row) -> Row:
    from worker.report.text import printable

    return [printable(value) if isinstance(value, str) else value for value in row]


def _write(config: "Config", path: Path, columns: Mapping[str, Kind], rows: Iterable[Row]) -> None:
    from worker.filesystem import output

    with output(path, int(config.site.file_mode, 8)) as file:
        write_parquet(file, columns, rows)


def _typed(columns: Mapping[str, Kind], rows: Iterable[Row]) -> Iterator[Row]:
    """Rows in which text that stands for moments is moments."""
    moments = [kind == Kind.MOMENT for kind in columns.values()]
    for row in rows:
        yield [
            moment(value) if of_moment and isinstance(value, str) else value
            for of_moment, value in zip(moments, row, strict=True)
        ]


def _known(decision: str, engine: "Engine") -> str:
    """The decision, if a model of this site can have given it; else raises UsageError."""
    from worker.store.counts import decisions
    from worker.store.runs import latest_card

    known = decisions(engine)
    if decision not in known and latest_card(engine):  # before the first run any may come
        raise click.UsageError(f"--decision '{decision}': there are only {', '.join(known)}")
    return decision


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
        review = f"  [{result.verdict}]" if result.verdict else ""
        word = style.FAILED if result.status == "failed" else record.decision
        yield (
            f"{result.finished_at:%Y-%m-%d %H:%M:%S}  {result.run:>4}  "
            f"{style.decision(word, result.labels, 13)}  {score:>5}  "
            f"{printable(record.file)}{note}{again}{review}"
        )
    if nothing:
        yield "no results; 'screen query --help' shows what can be asked"
