"""Commands about models: `screen models`, `screen train`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from worker.cli.options import EXISTING


@click.group()
def models() -> None:
    """List and verify the models that can run here."""


@models.command("list")
def list_models() -> None:
    """List the shipped models with thresholds and what was measured.

    \b
    Example:
      screen models list
    """
    from models.cards import read_card
    from models.registry import SHIPPED, shipped_names

    for number, name in enumerate(shipped_names()):
        card = read_card(SHIPPED / name)
        low, high = card.decision.indeterminate
        click.echo(f"{card.name} {card.version}{' (default)' if number == 0 else ''}")
        click.echo(f"  architecture  {card.architecture}, {card.input.size_px} px")
        click.echo(f"  weights       sha256 {card.weights.sha256}")
        click.echo(
            f"  threshold     {card.decision.threshold:.3f}, abstains in {low:.3f}–{high:.3f}"
        )
        click.echo(f"  validated on  {card.population.description}")
        for key, value in card.metrics.get("headline", {}).items():
            click.echo(f"  {key}: {value}")


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
@click.option(
    "--arch",
    "architectures",
    multiple=True,
    default=("mobilenet_v2",),
    show_default=True,
    help="Architecture, see docs/TRAINING.md; given several times: an ensemble of them.",
)
@click.option("--start", type=click.Choice(["imagenet", "random"]), help="Start weights.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the films, per fold.")
@click.option("--learning-rate", type=float, help="Peak of the schedule.")
@click.option("--seed", type=int, help="Of all random draws.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--checkpoints",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep checkpoints here, for other models with the same members; else in --out, for now.",
)
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
    architectures: tuple[str, ...],
    start: str | None,
    epochs: int | None,
    learning_rate: float | None,
    seed: int | None,
    device: str,
    checkpoints: Path | None,
    population: str,
    ages: tuple[float, float],
) -> None:
    """Train on class folders (NORMAL/, PNEUMONIA/), validated on held-out domains.

    Writes weights and card into --out; run again to resume. Films below --outside (adults, say)
    teach the guard what lies outside the population.

    \b
    Examples:
      screen train data/train --outside data/adults --ages 1 5 --out my-model
      screen train data/train --arch resnet50 --arch densenet121 --start random --out my-ensemble
    """
    from dataclasses import replace

    from models.cards import Population
    from worker.inference.engine import choose_device
    from worker.train.recipe import Recipe
    from worker.train.request import TrainingRequest, members
    from worker.train.run import train as run_training

    given: dict[str, Any] = {
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
        recipes=members(recipe, architectures),
        device=choose_device(device),
        checkpoints=checkpoints,
        command=shlex.join(["screen", *sys.argv[1:]]),
    )
    card = run_training(request, lambda line: click.echo(line, err=True))
    for domain, found in card.metrics["held_out_domains"].items():
        click.echo(
            f"{domain} held out: AUC {found['auc']:.3f}, sensitivity {found['sensitivity']:.3f}, "
            f"specificity {found['specificity']:.3f}, answered {found['answered']:.3f}"
        )
    click.echo(f"wrote {out}; try it: screen classify --model {shlex.quote(str(out))} FILM")
