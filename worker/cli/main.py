"""`screen`: the group of commands, and the one place where errors become exit codes."""

import errno
import importlib
import sys
from pathlib import Path

import click

from worker import __version__, logs
from worker.cli import style
from worker.cli.options import Stopped
from worker.errors import ScreenError
from worker.report.text import printable

_COMMANDS = {
    "init": "worker.cli.site",
    "watch": "worker.cli.watch",
    "backfill": "worker.cli.backfill",
    "classify": "worker.cli.films",
    "evaluate": "worker.cli.films",
    "serve": "worker.cli.serve",
    "receive": "worker.cli.network",
    "send": "worker.cli.network",
    "query": "worker.cli.query",
    "status": "worker.cli.status",
    "report": "worker.cli.report",
    "failed": "worker.cli.failed",
    "health": "worker.cli.health",
    "prune": "worker.cli.keep",
    "models": "worker.cli.model",
    "answer": "worker.cli.answer",
    "train": "worker.cli.train",
    "export": "worker.cli.export",
    "db": "worker.cli.database",
    "doctor": "worker.cli.site",
    "completion": "worker.cli.completion",
}

_RIGHTS = "run it as the account that owns the site, or check the rights"
_ROOM = "make room on that disk, then run it again; no film is lost"
_HINTS = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "that disk is mounted read-only: mount it for writing, or look why it is not",
    errno.EIO: "the disk or the share fails: look at it first, no film is touched meanwhile",
}


class _Lazy(click.Group):
    """Imports the module of a command when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which people meet them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, `None` if there is no such name."""
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(importlib.import_module(module), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; of a name that is none, say which are like it."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            name = error.command_name
            raise click.NoSuchCommand(name, possibilities=_COMMANDS, ctx=ctx) from error


@click.command(
    cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="screen")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file; else ./config.toml, else the packaged defaults.",
)
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """Screen chest radiographs for pneumonia. Decision support for a radiologist, not a diagnosis.

    \b
    A site in three commands:
      screen init clinic && cd clinic
      screen watch                 (in another terminal: cp films/*.dcm inbox/)
      screen report --open
    """
    ctx.obj, ctx.color = config, style.chosen()
    logs.set_up()  # as text, until the configuration is read: `chosen_config`


def main() -> None:
    """Run `screen`; errors stand on stderr in one line that says what to do."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        asked = getattr(error, "ctx", None)
        hint = f" See '{asked.command_path} --help'." if asked else ""
        _say(f"{error.format_message().rstrip('.')}.{hint}")
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error, Stopped) and sys.stderr.isatty():
            click.echo(err=True)  # the terminal has written ^C
        _say(f"stopped: {error}" if str(error) else "stopped")
        code = 130
    except ScreenError as error:
        _say(str(error))
        code = error.exit_code
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        hint = _HINTS.get(error.errno or 0, "")
        _say(f"{error.strerror or error}{where}{hint and f': {hint}'}")
        code = 1
    except Exception as error:
        code = _model_error(error)
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    """One line on stderr; names in it cannot command a terminal."""
    click.echo(f"screen: {printable(message)}", err=True)


def _model_error(error: Exception) -> int:
    """Explain an error of the `models` package, which this module must not import early."""
    from models.errors import ModelError

    if not isinstance(error, ModelError):
        raise error
    _say(str(error))
    return error.exit_code


if __name__ == "__main__":
    main()
