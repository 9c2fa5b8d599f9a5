"""What several commands share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from worker.config import Config

EXISTING = click.Path(exists=True, path_type=Path)


class _ArchivePath(click.Path):
    """A path that is there, or the URL of an object store, as text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """URLs are left as they are: whoever opens them says what is wrong."""
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, param, ctx)


ARCHIVE = _ArchivePath(exists=True, path_type=Path)
OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)


def require_folders(*outputs: Path | None) -> None:
    """Raise UsageError for a file that cannot be written, before the work for it is done."""
    for output in outputs:
        if output is not None and not output.absolute().parent.is_dir():
            raise click.UsageError(f"cannot write {output}: there is no folder {output.parent}")


class Unlisted:
    """Folders that could not be listed during a walk: said on stderr, once each."""

    def __init__(self) -> None:
        self.folders: set[str] = set()

    def __call__(self, error: OSError) -> None:
        """Note one; the walk goes on."""
        from worker.cli.progress import say

        if error.filename not in self.folders:
            self.folders.add(error.filename)
            say(f"screen: cannot list {error.filename!r}: {error.strerror}", err=True)


class Stopped(click.Abort):
    """Ctrl-C, with what was finished and how to go on."""


@contextmanager
def stoppable(words: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C end the command with these words; stands around all that must end in order."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Stopped(words()) from error


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config` after the command's name too; it wins over the group's."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Configuration file; else ./config.toml, else the packaged defaults.",
    )(command)


def engine_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--engine`, of which `with_engine` makes the configuration's."""
    return click.option(
        "--engine",
        type=click.Choice(["torch", "openvino", "onnx"]),
        help="What runs the network; an exported file says it by itself.",
    )(command)


def with_engine(config: "Config", engine: str | None, model: str | None) -> "Config":
    """The configuration with the engine that was asked for, or that the model named needs."""
    if engine is None and model is not None:
        from worker.export.formats import format_of

        form = format_of(Path(model)) if Path(model).is_file() else None
        if form:
            engine = form.name
        elif config.model.engine == "onnx":  # of the site's own file; what is named here is none
            engine = "torch"
    if engine is None:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"engine": engine})})


def chosen_config(config_file: Path | None) -> "Config":
    """The configuration that the command line asks for; the log takes its form from it.

    Raises ConfigError.
    """
    from worker import logs
    from worker.config import load_config

    from_group = click.get_current_context().find_root().obj
    config = load_config(config_file or from_group)
    logs.set_up(config.log.format)
    return config
