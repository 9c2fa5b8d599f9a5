"""Commands about the site itself: `screen init`, `screen db`, `screen doctor`."""

import sys
from pathlib import Path

import click

from worker.cli.options import chosen_config, config_option


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Make a site in FOLDER (new or empty): configuration, folders and database.

    \b
    Example:
      screen init clinic
    """
    from worker.site import init_site

    config, note = init_site(folder)
    if note:
        click.echo(note, err=True)
    click.echo(f"made the site {config.root}")
    click.echo(f"  drop films into  {config.site.inbox}")
    click.echo(f"  start the worker screen watch --config {config.source}")


@click.group()
def db() -> None:
    """Upgrade and check the database."""


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
    from worker.site import read_site
    from worker.store.database import integrity_problems

    with read_site(chosen_config(config_file).require_site()) as engine:
        problems = integrity_problems(engine)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        click.echo("screen: the database is damaged: stop the worker, restore a copy", err=True)
        sys.exit(1)
    click.echo("the database is sound")


@click.command()
@config_option
def doctor(config_file: Path | None) -> None:
    """Look at versions, device, decoders, model, disk, database and watcher; say how to mend.

    Exits 1 if anything is broken. Outside a site only the installation is looked at.

    \b
    Example:
      screen doctor
    """
    from worker.doctor import examine

    findings = list(examine(chosen_config(config_file)))
    for finding in findings:
        click.echo(f"{'ok   ' if finding.ok else 'WRONG'} {finding.what}: {finding.found}")
        if finding.mend:
            click.echo(f"      → {finding.mend}")
    if not all(finding.ok for finding in findings):
        sys.exit(1)
