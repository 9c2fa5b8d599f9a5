"""Commands about the database: `screen db`."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import chosen_config, config_option, stoppable

if TYPE_CHECKING:
    from worker.config import Config

_NAMED = 10  # unknown films that a restore names
_BACK_UP = "pg_dump --format=custom --file={file} {url}"
_RESTORE = (
    "stop all workers, make the database anew (dropdb, createdb), then "
    "pg_restore --no-owner --exit-on-error --dbname={url} {file} && screen db restore --restored"
)


@click.group()
def db() -> None:
    """Upgrade, check, back up and restore the database."""


@db.command("upgrade")
@config_option
def upgrade_database(config_file: Path | None) -> None:
    """Bring the database to the schema of this program; `watch` and `backfill` do it by themselves.

    \b
    Example:
      screen db upgrade
    """
    from worker.store.database import open_database, revisions, upgrade

    config = chosen_config(config_file).require_site()
    engine = open_database(config.database, create=True)
    before, _ = revisions(engine)
    upgrade(engine)
    after, _ = revisions(engine)
    engine.dispose()
    click.echo(f"schema {before or 'none'} → {after}")


@db.command("check")
@config_option
def check_database(config_file: Path | None) -> None:
    """Check schema and integrity of the database; exit 1 if anything is wrong.

    \b
    Example:
      screen db check
    """
    from worker.cli.progress import told
    from worker.site import read_site
    from worker.store.database import integrity_problems

    config = chosen_config(config_file).require_site()
    with (
        stoppable(lambda: "the check was not finished; nothing was changed"),
        read_site(config) as engine,
        told() as tell,
    ):
        problems = integrity_problems(engine, tell)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        click.echo("screen: the database is damaged: stop the worker, restore a copy", err=True)
        sys.exit(1)
    click.echo("the database is sound")


@db.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@config_option
def backup_database(file: Path, force: bool, config_file: Path | None) -> None:
    """Copy the database to FILE while the worker runs, and check the copy.

    \b
    Example:
      screen db backup /backup/screen-monday.db
    """
    from worker.cli.progress import told
    from worker.site import read_site
    from worker.store.backup import back_up

    config = chosen_config(config_file).require_site()
    _require_file(config, _BACK_UP, file)
    file = file.absolute()
    if not file.parent.is_dir():
        raise click.UsageError(f"cannot write {file}: there is no folder {file.parent}")
    own = [f for f in config.site.folders if file.resolve().is_relative_to(f.resolve())]
    if own or file.resolve() == config.database.file.resolve():
        raise click.UsageError(f"{file} belongs to the site itself: put backups somewhere else")
    with (
        stoppable(lambda: f"no backup was made; {file} is as it was before"),
        read_site(config) as engine,
        told() as tell,
    ):
        try:
            back_up(engine, file, overwrite=force, tell=tell)
        except FileExistsError as error:
            raise click.UsageError(f"{file} is there: name a new file, or --force") from error
    click.echo(f"backed up to {file}, sound, {file.stat().st_size / 1e6:.1f} MB")


@db.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--restored", is_flag=True, help="The server's tools put a backup in place.")
@config_option
def restore_database(file: Path | None, restored: bool, config_file: Path | None) -> None:
    """Put the backup FILE in the place of the database; stop the worker first.

    The replaced database is kept beside it. Films that ended after the backup still lie in done/ or
    failed/, but the restored database does not know them: 'screen db unknown' lists them and gives
    them back to the inbox. A database of PostgreSQL is restored by its own tools; --restored then
    does what is left to do (docs/DATABASE.md).

    \b
    Example:
      screen db restore /backup/screen-monday.db
      screen db restore --restored
    """
    from worker.cli.progress import told
    from worker.restore import restore

    config = chosen_config(config_file).require_site()
    if restored:
        if file:
            raise click.UsageError("--restored and FILE: what is there is FILE already")
        _restored(config)
        return
    if file is None:
        raise click.UsageError("name the FILE that 'screen db backup' wrote")
    _require_file(config, _RESTORE, file)
    with (
        stoppable(lambda: "either database is in place, whole; see 'screen status', then go on"),
        told() as tell,
    ):
        done = restore(config, file, datetime.now(UTC), tell)
    click.echo(f"restored {config.database.file}")
    if done.aside:
        click.echo(f"the database before is {done.aside}")
    _say_restored(config, done.forgotten)


def _restored(config: "Config") -> None:
    from worker.restore import settle

    _say_restored(config, settle(config))


def _say_restored(config: "Config", forgotten: int) -> None:
    if forgotten:
        click.echo(f"{forgotten} files were on their way in the backup and have ended since")
    count = _list_unknown(config, limit=_NAMED)
    if count:
        click.echo(f"{count} films ended after the backup: 'screen db unknown --feed-again'")
    click.echo("now render the reports again: screen report")


def _require_file(config: "Config", command: str, file: Path) -> None:
    """Raise UsageError, with what to do instead, where a server has the database."""
    if not config.database.is_file:
        name, url = shlex.quote(str(file)), shlex.quote(config.database.tools_url)
        raise click.UsageError(
            f"the database is on a server, use its own tools: {command.format(file=name, url=url)}"
        )


@db.command("copy")
@click.option(
    "--to", "url", required=True, metavar="URL", help="An empty database, as in database.url."
)
@config_option
def copy_database(url: str, config_file: Path | None) -> None:
    """Copy the whole database into an empty one, from SQLite to PostgreSQL say; stop all workers.

    The tables are made there if need be. Everything is copied in one transaction, and each table's
    rows are counted and compared with those that they came from. The old database stays as it is.

    \b
    Example:
      screen db copy --to postgresql://screen@db.example/screen
    """
    from worker.cli.progress import told
    from worker.config import Database
    from worker.restore import copy_to

    config = chosen_config(config_file).require_site()
    target = Database(url=url, busy_timeout_s=config.database.busy_timeout_s)
    if target.has_password:
        raise click.UsageError(
            "--to: no password here, where other users and the shell's history see it: leave it "
            "out and give it in PGPASSWORD or ~/.pgpass"
        )
    with stoppable(lambda: "nothing was copied"), told() as tell:
        carried = copy_to(config, target, tell)
    for table in carried:
        click.echo(
            f"{table.table:<16} {table.rows:>12} rows  SHA-256 {table.sha256[:16]}, the same"
        )
    click.echo(f"now write into [database] of {config.source}:")
    click.echo(f'url = "{target.tools_url}"')


@db.command("unknown")
@click.option("--json", "as_json", is_flag=True, help="An array of paths on stdout.")
@click.option("--feed-again", is_flag=True, help="Move them back into the inbox.")
@config_option
def unknown_in_database(as_json: bool, feed_again: bool, config_file: Path | None) -> None:
    """List films in done/ and failed/ that the database does not know, after a restore say.

    With --feed-again they go back to the inbox, never over another film, and are screened again
    like any other; stop the worker first.

    \b
    Examples:
      screen db unknown --json
      screen db unknown --feed-again
    """
    from worker import restore
    from worker.cli.progress import told
    from worker.site import alone, read_site

    config = chosen_config(config_file).require_site()
    if not feed_again:
        if _list_unknown(config, as_json=as_json) == 0 and not as_json:
            click.echo("the database knows every film in done/ and failed/")
        return
    words = "films moved so far are back in the inbox, the others where they were; run it again"
    with stoppable(lambda: words), alone(config), read_site(config) as engine, told() as tell:
        found = list(restore.unknown_films(config.site, engine))
        for number, unknown in enumerate(found):
            tell("films", number, len(found), "film")
            restore.feed_again(config.site, unknown)
    click.echo(f"{len(found)} films are back in the inbox")


def _list_unknown(config: "Config", *, as_json: bool = False, limit: int | None = None) -> int:
    from worker.report.text import printable
    from worker.restore import unknown_films
    from worker.site import read_site

    with read_site(config) as engine:
        paths = [str(unknown.path) for unknown in unknown_films(config.site, engine)]
    if as_json:
        click.echo(json.dumps(paths))
    else:
        for path in paths[:limit]:
            click.echo(printable(path))
        if limit and len(paths) > limit:
            click.echo(f"… and {len(paths) - limit} more: 'screen db unknown' lists all")
    return len(paths)
