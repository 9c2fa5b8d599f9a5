"""`screen completion`: a script for the shell, and the values it completes.

Each key press runs the program: nothing here imports torch, and what cannot be known at once is
not completed. No error may disturb a line that somebody is typing.
"""

from contextlib import suppress
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from worker.errors import FilmError, ScreenError
from worker.records import Decision

_NAMES = ("screen", "cxr-screen")  # as pyproject.toml has them
_SHELLS = ("bash", "zsh", "fish")
_MOST = 50  # values that a shell is given


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and values in SHELL.

    It serves both names of the program, screen and cxr-screen.

    \b
    Examples:
      screen completion bash >> ~/.bashrc
      screen completion zsh >> ~/.zshrc
      screen completion fish > ~/.config/fish/conf.d/screen.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this click completes nothing for {shell}")
    for name in _NAMES:
        variable = f"_{name}_COMPLETE".replace("-", "_").upper()
        click.echo(kind(ctx.find_root().command, {}, name, variable).source())


def complete_model(
    _ctx: click.Context, _param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Names of shipped models; else folders."""
    from models.names import shipped_names

    names = [name for name in ("default", *shipped_names()) if name.startswith(typed)]
    return [*map(CompletionItem, names)] or [CompletionItem(typed, type="dir")]


def complete_decision(
    ctx: click.Context, _param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Decisions that the models of this site can give, else those of the shipped ones."""
    known = [each.value for each in Decision]
    with suppress(ScreenError, OSError), _site(ctx) as engine:
        from worker.store.counts import decisions

        known = [*decisions(engine)] or known
    return [CompletionItem(word) for word in known if word.startswith(typed.upper())]


def complete_reason(
    _ctx: click.Context, _param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Slugs of failures."""
    slugs = sorted(kind.slug for kind in FilmError.__subclasses__())
    return [CompletionItem(slug) for slug in slugs if slug.startswith(typed)]


def complete_run(ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Numbers of the last runs at this site."""
    from worker.store.runs import runs

    with suppress(ScreenError, OSError), _site(ctx) as engine:
        found = [(str(run.run), f"{run.kind} of {run.source}") for run in runs(engine, _MOST)]
        return [CompletionItem(run, help=what) for run, what in found if run.startswith(typed)]
    return []


def complete_failure(
    ctx: click.Context, _param: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Numbers of failures that stand at this site."""
    from worker.store.failures import failures

    with suppress(ScreenError, OSError), _site(ctx) as engine:
        found = [(str(each.id), each.reason) for each in failures(engine)]
        known = [CompletionItem(number, help=why) for number, why in found]
        return [item for item in known if item.value.startswith(typed)][:_MOST]
    return []


def _site(ctx: click.Context) -> Any:
    """The database of the site that the line names, or of this folder."""
    from worker.config import load_config
    from worker.site import read_site

    named = ctx.params.get("config_file") or ctx.find_root().params.get("config")
    return read_site(load_config(named).require_site())
