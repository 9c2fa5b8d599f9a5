"""`screen answer`: answers in DICOM by hand, again, or for films of before."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import chosen_config, config_option

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.config import Config

_TROUBLES_SHOWN = 20


@click.command()
@click.option("--again", "file", metavar="FILE", help="Make the answers of this film again.")
@click.option("--all", "everything", is_flag=True, help="Make all answers again.")
@click.option("--missing", is_flag=True, help="Ask for answers of films screened without.")
@config_option
def answer(file: str | None, everything: bool, missing: bool, config_file: Path | None) -> None:
    """Make the answers in DICOM that are due; say what was made, and what is impossible and why.

    'screen watch' and 'screen backfill' make them by themselves where [dicom] results asks for
    any. An answer that is made again has the same UIDs, and is sent again. FILE is a name as
    'screen query' says it, or a film's SHA-256. Exit code 1 says that disk or share refused.

    \b
    Examples:
      screen answer
      screen answer --missing
      screen answer --again person7.dcm
    """
    from worker.marks import require_this_site
    from worker.store.database import open_database, require_current

    if sum((file is not None, everything, missing)) > 1:
        raise click.UsageError("--again, --all and --missing: take one of them")
    config = chosen_config(config_file).require_site()
    engine = open_database(config.database)
    try:
        require_current(engine)
        check = require_this_site(config.site, engine)
        _ask(engine, config, file, everything, missing)
        trouble = _make(engine, config, check)
        _sum_up(engine)
    finally:
        engine.dispose()
    if trouble:
        raise click.ClickException(f"some answers wait: {trouble}. Run it again")


def _ask(
    engine: "Engine", config: "Config", file: str | None, everything: bool, missing: bool
) -> None:
    from worker.store.answers import ask_again, ask_for_missing, make_due_now, screenings_of

    now = datetime.now(UTC)
    if missing:
        if not config.dicom.results:
            raise click.UsageError("[dicom] results asks for none: set it to ['sr', 'sc'], say")
        click.echo(f"asked for {ask_for_missing(engine, config.dicom.results, now)} answers")
    elif everything:
        ask_again(engine, None, now)
    elif file is not None and not ask_again(engine, screenings_of(engine, file), now):
        raise click.UsageError(f"there are no answers of {file!r}: see 'screen answer --missing'")
    make_due_now(engine, now)


def _make(engine: "Engine", config: "Config", check: Callable[[], None]) -> str | None:
    """Make what is due, a line each; gives what disk or share refused, if they did."""
    from worker.interop.answerer import Answerer
    from worker.store.answers import Due

    def tell(each: Due, state: str, message: str | None) -> None:
        if state == "made":
            said = f"kept, {message}:" if message else "made"
            click.echo(f"{said} {each.kind} {each.sop_instance_uid}")

    with closing(Answerer(engine, config, check, told=tell)) as answerer:
        return answerer.work_off().trouble


def _sum_up(engine: "Engine") -> None:
    from worker.report.text import printable
    from worker.store.answers import counts, troubles, without_identity

    stuck = list(troubles(engine, _TROUBLES_SHOWN))
    for each in stuck:
        state = "impossible" if each.is_final else "waits"
        click.echo(f"{state}: {each.kind} of {printable(each.file)}: {each.message}")
    found = counts(engine)
    if sum(found[state] for state in ("impossible", "due")) > len(stuck) == _TROUBLES_SHOWN:
        click.echo(f"only the {_TROUBLES_SHOWN} newest of these are shown")
    said = ", ".join(f"{count} {state}" for state, count in found.items())
    click.echo(f"answers: {said}; {without_identity(engine)} films have no DICOM identity")
