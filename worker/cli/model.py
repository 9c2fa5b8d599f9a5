"""Commands about models that are there: `screen models`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.completion import complete_model
from worker.cli.options import chosen_config, config_option
from worker.cli.threshold import threshold
from worker.cli.train import adopt

if TYPE_CHECKING:
    from models.cards import DecisionConstants
    from worker.config import Config


@click.group()
def models() -> None:
    """List, verify and adopt the models that can run here; set the site's own threshold."""


models.add_command(adopt)
models.add_command(threshold)


@models.command("list")
@config_option
def list_models(config_file: Path | None) -> None:
    """List the models that can run here with thresholds and what was measured.

    In a site: also its own model, if that is no shipped one, and its own threshold. What was
    measured is at the threshold of the card.

    \b
    Example:
      screen models list
    """
    from models.errors import UnknownModel
    from models.names import SHIPPED, shipped_names
    from models.registry import find_model

    config = chosen_config(config_file)
    folders = {SHIPPED / name: "" for name in shipped_names()}
    folders[next(iter(folders))] = " (default)"
    if config.source:
        try:
            own = find_model(config.model.name, config.root)
            folders[own] = folders.get(own, "") + " (this site's)"
        except UnknownModel as error:
            click.echo(f"screen: {error}", err=True)
    for folder, mark in folders.items():
        for line in _described(folder, mark, config):
            click.echo(line)


def _described(folder: Path, mark: str, config: "Config") -> Iterator[str]:
    from models.cards import read_card
    from worker.thresholds import STRANDED, in_use

    card = read_card(folder)
    used = in_use(card, config)
    yield f"{card.name} {card.version}{mark}"
    yield f"  architecture  {card.architecture}, {card.input.size_px} px"
    yield f"  weights       sha256 {card.weights.sha256}"
    if card.export:
        yield f"  exported for  {card.export.format}, {card.export.precision}"
    yield f"  threshold     {_constants(card.decision)}"
    if used.entry:
        yield f"  at this site  {_constants(used.decision)}; {used.decision.chosen_on}"
    elif used.stranded and "this site's" in mark:
        yield f"  at this site  {STRANDED}"
    yield f"  validated on  {card.population.description}"
    if used.entry:
        yield "  measured at the card's threshold:"
    for key, value in card.metrics.get("headline", {}).items():
        yield f"  {key}: {value}"


def _constants(decision: "DecisionConstants") -> str:
    low, high = decision.indeterminate
    return f"{decision.threshold:.3f}, abstains in {low:.3f}–{high:.3f}"


@models.command()
@click.argument("names", nargs=-1, shell_complete=complete_model)
def verify(names: tuple[str, ...]) -> None:
    """Check weights against their cards and load them; all shipped models unless NAMES are given.

    Of an exported file every file is checked, and none is opened.

    \b
    Examples:
      screen models verify
      screen models verify default path/to/my-model exports/my-model.onnx
    """
    from models.exports import load
    from models.names import shipped_names
    from models.registry import find_model

    for name in names or shipped_names():
        model = load(find_model(name))
        click.echo(f"{name}: {model.card.name} {model.card.version}, weights are as the card says")
