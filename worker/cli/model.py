"""Commands about models: `screen models`, `screen train`."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.options import EXISTING, chosen_config, config_option
from worker.cli.threshold import threshold

if TYPE_CHECKING:
    from models.cards import DecisionConstants
    from worker.config import Config


@click.group()
def models() -> None:
    """List and verify the models that can run here; set the site's own threshold."""


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
    from models.registry import SHIPPED, find_model, shipped_names

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
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Check weights against their cards and load them; all shipped models unless NAMES are given.

    \b
    Examples:
      screen models verify
      screen models verify default path/to/my-model
    """
    from models.registry import find_model, load_model, shipped_names

    for name in names or shipped_names():
        model = load_model(find_model(name))
        click.echo(f"{name}: {model.card.name} {model.card.version}, weights are as the card says")


@click.command()
@click.argument("folders", nargs=-1, required=True, type=EXISTING)
@click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Model folder."
)
@click.option("--outside", multiple=True, type=EXISTING, help="Films of another population: guard.")
@click.option("--name", default="my-model", show_default=True, help="The model's name.")
@click.option("--model-version", default="1", show_default=True, help="The model's version.")
@click.option("--arch", help="Architecture: mobilenet_v2 unless given; see docs/TRAINING.md.")
@click.option("--start", type=click.Choice(["imagenet", "random"]), help="Start weights.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the films, per fold.")
@click.option("--learning-rate", type=float, help="Peak of the schedule.")
@click.option("--seed", type=int, help="Of all random draws.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--population",
    default="the population of the training films",
    show_default=True,
    help="Whose films these are, for card and reports.",
)
@click.option("--ages", type=(float, float), default=(0.0, 150.0), help="Youngest, oldest; years.")
def train(
    folders: tuple[Path, ...],
    out: Path,
    outside: tuple[Path, ...],
    name: str,
    model_version: str,
    arch: str | None,
    start: str | None,
    epochs: int | None,
    learning_rate: float | None,
    seed: int | None,
    device: str,
    population: str,
    ages: tuple[float, float],
) -> None:
    """Train on class folders (NORMAL/, PNEUMONIA/), validated on held-out domains.

    Writes weights and card into --out; run again to resume. Films below --outside (adults, say)
    teach the guard what lies outside the population.

    \b
    Example:
      screen train data/train --outside data/adults --ages 1 5 --out my-model
    """
    from dataclasses import replace

    from models.cards import Population
    from worker.inference.engine import choose_device
    from worker.train.recipe import Recipe
    from worker.train.run import TrainingRequest
    from worker.train.run import train as run_training

    given: dict[str, Any] = {
        "architecture": arch,
        "start": start,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    recipe = replace(Recipe(), **{key: value for key, value in given.items() if value is not None})
    request = TrainingRequest(
        folders=folders,
        outside=outside,
        out=out,
        name=name,
        version=model_version,
        population=Population(description=population, min_age_years=ages[0], max_age_years=ages[1]),
        recipe=recipe,
        device=choose_device(device),
        command=shlex.join(["screen", *sys.argv[1:]]),
    )
    card = run_training(request, lambda line: click.echo(line, err=True))
    for domain, found in card.metrics["held_out_domains"].items():
        click.echo(
            f"{domain} held out: AUC {found['auc']:.3f}, sensitivity {found['sensitivity']:.3f}, "
            f"specificity {found['specificity']:.3f}, answered {found['answered']:.3f}"
        )
    click.echo(f"wrote {out}; try it: screen classify --model {shlex.quote(str(out))} FILM")
