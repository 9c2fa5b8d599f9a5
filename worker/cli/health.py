"""`screen health`: does the worker live? For systemd, containers and monitoring."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from worker.cli import style
from worker.cli.options import chosen_config, config_option
from worker.heartbeat import HANGS_AFTER_S, health_of


@click.command()
@click.option(
    "--max-age",
    type=click.FloatRange(min=1),
    default=HANGS_AFTER_S,
    show_default=True,
    help="Seconds without a sign of life after which the worker hangs.",
)
@click.option("--strict", is_flag=True, help="A paused worker (disk, share) is not healthy either.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@config_option
def health(max_age: float, strict: bool, as_json: bool, config_file: Path | None) -> None:
    """Say in one line whether the worker lives; exit 0 if it does, 1 if not.

    A worker that is paused, by a full disk say, lives: the line says why it is paused, and starting
    it again would not help. Run it where the worker runs: in its container.

    \b
    Examples:
      screen health
      screen health --max-age 300 --strict --json
    """
    config = chosen_config(config_file)
    found = health_of(config.local_state, time.monotonic(), max_age, strict=strict)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        fine = style.wait if found.state == "paused" else style.good
        mark = fine("healthy") if found.healthy else style.bad("NOT HEALTHY")
        click.echo(f"{mark}: {found.words}")
    if not found.healthy:
        sys.exit(1)
