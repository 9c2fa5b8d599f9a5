"""Commands about the site itself: `screen init`, `screen doctor`."""

import sys
from pathlib import Path

import click

from worker.cli import style
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
        mark = style.good("ok", 5) if finding.ok else style.bad("WRONG", 5)
        click.echo(f"{mark} {finding.what}: {finding.found}")
        if finding.mend:
            click.echo(f"      → {finding.mend}")
    if not all(finding.ok for finding in findings):
        sys.exit(1)
