"""What several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from worker.config import Config

EXISTING = click.Path(exists=True, path_type=Path)


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config` after the command's name too; it wins over the group's."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Configuration file; else ./config.toml, else the packaged defaults.",
    )(command)


def chosen_config(config_file: Path | None) -> "Config":
    """The configuration that the command line asks for. Raises ConfigError."""
    from worker.config import load_config

    from_group = click.get_current_context().find_root().obj
    return load_config(config_file or from_group)
