"""`screen failed`: look at what could not be screened, try it again, or put it aside."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.completion import complete_failure, complete_reason
from worker.cli.options import chosen_config, config_option, stoppable
from worker.errors import StaleFailure, advice_for

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.config import Config
    from worker.store.failures import Failing

_reason_option = click.option(
    "--reason", help="Only failures with this slug.", shell_complete=complete_reason
)


@click.group()
def failed() -> None:
    """List, show, retry and discard files that could not be screened."""


@failed.command("list")
@_reason_option
@click.option("--run", type=int, help="Only failures of this run.")
@click.option("--all", "every", is_flag=True, help="Retried and discarded failures too.")
@click.option("--json", "as_json", is_flag=True, help="An array of records on stdout.")
@config_option
def list_failed(
    reason: str | None, run: int | None, every: bool, as_json: bool, config_file: Path | None
) -> None:
    """List the failures that stand, oldest first.

    \b
    Examples:
      screen failed list
      screen failed list --reason truncated-file --json
      screen failed list --run 12 --all
    """
    from worker.site import read_site
    from worker.store.failures import failures

    with read_site(chosen_config(config_file).require_site()) as engine:
        found = failures(engine, reason=reason, run=run, every=every)
    if as_json:
        click.echo(json.dumps([_facts(each) for each in found]))
        return
    for each in found:
        click.echo(_line(each))
    if not found:
        click.echo("no failures stand" if not every else "no failures")


@failed.command("show")
@click.argument("file", shell_complete=complete_failure)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@config_option
def show_failed(file: str, as_json: bool, config_file: Path | None) -> None:
    """Show everything known of one failure: FILE is its number, or its name.

    \b
    Examples:
      screen failed show 17
      screen failed show film.dcm
    """
    from worker.report.text import printable
    from worker.site import read_site

    with read_site(chosen_config(config_file).require_site()) as engine:
        each = _named(engine, file)
    if as_json:
        click.echo(json.dumps(_facts(each)))
        return
    for name, value in (_facts(each) | {"what_to_do": advice_for(each.reason)}).items():
        click.echo(f"{name:<14} {'–' if value is None else printable(str(value))}")


@failed.command("retry")
@click.argument("files", nargs=-1, shell_complete=complete_failure)
@click.option("--all", "every", is_flag=True, help="Every failure that stands.")
@_reason_option
@config_option
def retry_failed(
    files: tuple[str, ...], every: bool, reason: str | None, config_file: Path | None
) -> None:
    """Give failed films back to the inbox; FILES are their numbers or names.

    No film there is overwritten, a running worker takes them up at once. Files of archives are
    marked: the next backfill tries them again. Exit code 3 says that some could not be given back.

    \b
    Examples:
      screen failed retry 17 18
      screen failed retry --reason unsupported-transfer-syntax
      screen failed retry --all
    """
    from worker.failed import retry

    if sum((bool(files), every, reason is not None)) != 1:
        raise click.UsageError("name files, or --all, or --reason: one of the three")
    config = chosen_config(config_file).require_site()
    with _opened(config) as engine:
        chosen = _chosen(engine, files, reason)

        def again(each: "Failing") -> str:
            place = retry(config.site, engine, each, datetime.now(UTC))
            return "back in the inbox" if place else "the next backfill tries it again"

        _each(chosen, again)


@failed.command("discard")
@click.argument("files", nargs=-1, required=True, shell_complete=complete_failure)
@click.option("--delete", is_flag=True, help="Delete film and sidecar in failed/ as well.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@config_option
def discard_failed(
    files: tuple[str, ...], delete: bool, yes: bool, config_file: Path | None
) -> None:
    """Put failures aside: they leave the worklist, and no exit code counts them any more.

    The film stays in failed/, and 'retry' still takes it, unless --delete says otherwise. What
    failed stays written in the database.

    \b
    Examples:
      screen failed discard 17
      screen failed discard film.dcm --delete --yes
    """
    from worker.failed import discard

    config = chosen_config(config_file).require_site()
    with _opened(config) as engine:
        chosen = _chosen(engine, files, None)
        if delete and not yes:
            click.confirm(f"Delete {len(chosen)} films in failed/ for ever?", abort=True)

        def aside(each: "Failing") -> str:
            discard(config.site, engine, each, datetime.now(UTC), delete=delete)
            return "discarded and deleted" if delete else "discarded"

        _each(chosen, aside)


@contextmanager
def _opened(config: "Config") -> Iterator["Engine"]:
    """The site's database for writing, beside a running worker; at the end the worklist is true."""
    from worker.failed import settle_interrupted
    from worker.report.site import RESULT_PAGES, write_worklist
    from worker.store.database import open_database, require_current

    engine = open_database(config.database)
    try:
        require_current(engine)
        settle_interrupted(config.site, engine, datetime.now(UTC))
        try:
            yield engine
        finally:
            now = datetime.now(UTC)
            write_worklist(config.site, engine, now, at_most=RESULT_PAGES)
    finally:
        engine.dispose()


def _chosen(engine: "Engine", files: Sequence[str], reason: str | None) -> "list[Failing]":
    from worker.store.failures import failures

    if not files:
        return failures(engine, reason=reason)
    return list({each.id: each for each in (_named(engine, file) for file in files)}.values())


def _named(engine: "Engine", word: str) -> "Failing":
    """The failure that is called so; of several the one that stands, else raises UsageError."""
    from worker.store.failures import failures_called

    found = failures_called(engine, word)
    standing = [each for each in found if each.stands] or found[:1]
    if not standing:
        raise click.UsageError(f"no file '{word}' failed: 'screen failed list' shows which did")
    if len(standing) > 1:
        numbers = ", ".join(str(each.id) for each in standing)
        raise click.UsageError(f"several files '{word}' failed: choose one by number: {numbers}")
    return standing[0]


def _each(chosen: "Sequence[Failing]", step: Any) -> None:
    """Take a step for every failure; what cannot be done is said, and the others go on."""
    from worker.cli.progress import bar, say

    left = done = 0
    with (
        stoppable(lambda: f"{done} of {len(chosen)} were done, as said above; run it again"),
        bar("", len(chosen), "film") as shown,
    ):
        for each in chosen:
            try:
                said = step(each)
            except (StaleFailure, OSError) as error:
                left += 1
                said = error.strerror if isinstance(error, OSError) else str(error)
                say(f"screen: {each.id}: {said}", err=True)
            else:
                say(f"{each.id}: {said}")
            done += 1
            shown.update()
    if not chosen:
        click.echo("no failures stand")
    if left:
        sys.exit(1 if left == len(chosen) else 3)


def _facts(each: "Failing") -> dict[str, Any]:
    facts = asdict(each)
    for name in ("failed_at", "resolved_at"):
        facts[name] = facts[name] and facts[name].isoformat()
    return facts


def _line(each: "Failing") -> str:
    from worker.report.text import printable

    where = "" if each.of_inbox else "  (archive)"
    mark = f"  [{each.resolution}]" if each.resolution else ""
    name = printable(each.name or each.file)
    return (
        f"{each.id:>6}  {each.failed_at:%Y-%m-%d %H:%M:%S}  {each.reason:<28}  {name}{where}{mark}"
    )
