"""Commands that make models: `screen train`, `screen models adopt`."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.options import EXISTING, stoppable

if TYPE_CHECKING:
    from models.cards import Card
    from worker.train.request import TrainingRequest

_FOLDER = click.Path(file_okay=False, path_type=Path)

# Of every model that is made here, trained or adopted.
_OPTIONS = (
    click.option("--out", required=True, type=_FOLDER, help="Model folder."),
    click.option(
        "--outside", multiple=True, type=EXISTING, help="Films of another population: guard."
    ),
    click.option("--name", default="my-model", show_default=True, help="The model's name."),
    click.option("--model-version", default="1", show_default=True, help="The model's version."),
    click.option(
        "--arch",
        "architectures",
        multiple=True,
        default=("mobilenet_v2",),
        show_default=True,
        help="Architecture, see docs/TRAINING.md; given several times: an ensemble of them.",
    ),
    click.option(
        "--labels",
        type=(str, str),
        default=("NORMAL", "PNEUMONIA"),
        show_default=True,
        help="Names of the class folders and of the answers, the finding second.",
    ),
    click.option(
        "--size-px", type=click.IntRange(32, 2048), help="Side of the input; 224 unless given."
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--population",
        default="the population of the labelled films",
        show_default=True,
        help="Whose films these are, for card and reports.",
    ),
    click.option(
        "--ages", type=(float, float), default=(0.0, 150.0), help="Youngest, oldest; years."
    ),
)


def _of_every_model(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("folders", nargs=-1, required=True, type=EXISTING)
@_of_every_model
@click.option("--start", type=click.Choice(["imagenet", "random"]), help="Start weights.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the films, per fold.")
@click.option("--learning-rate", type=float, help="Peak of the schedule.")
@click.option("--seed", type=int, help="Of all random draws.")
@click.option(
    "--audit/--no-audit",
    default=True,
    show_default=True,
    help="Also hold out each kind of pneumonia; nothing is chosen on it.",
)
@click.option(
    "--checkpoints",
    type=_FOLDER,
    help="Keep checkpoints here, for other models with the same members; else in --out, for now.",
)
def train(
    folders: tuple[Path, ...],
    start: str | None,
    epochs: int | None,
    learning_rate: float | None,
    seed: int | None,
    audit: bool,
    checkpoints: Path | None,
    **model: Any,
) -> None:
    """Train on class folders (NORMAL/, PNEUMONIA/), validated on held-out domains.

    Writes weights and card into --out; run again to resume. Films below --outside (adults, say)
    teach network and guard what lies outside the population.

    \b
    Examples:
      screen train data/train --outside data/adults --ages 1 5 --out my-model
      screen train data/train --arch resnet50 --arch densenet121 --start random --out my-ensemble
    """
    from dataclasses import replace

    from worker.cli.progress import told
    from worker.train.run import train as run_training

    changes = {"start": start, "epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    request = replace(_request(folders, model, changes, checkpoints), audit=audit)
    kept = "each finished epoch is kept: the same command goes on after it"
    with stoppable(lambda: kept), told() as tell:
        card = run_training(request, _say, tell)
    _said(card, request)


@click.command()
@click.argument(
    "weights", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--films",
    "folders",
    multiple=True,
    required=True,
    type=EXISTING,
    help="Class folders that the network was not trained on.",
)
@_of_every_model
@click.option("--mean", type=float, help="Of the input in [0, 1]; ImageNet's unless given.")
@click.option("--std", type=float, help="Of the input in [0, 1]; ImageNet's unless given.")
@click.option(
    "--percentiles",
    type=(float, float),
    default=(1.0, 99.0),
    show_default=True,
    help="Of a film's pixels, that become 0 and 1; '0 100' stretches nothing away.",
)
def adopt(
    weights: tuple[Path, ...],
    folders: tuple[Path, ...],
    mean: float | None,
    std: float | None,
    percentiles: tuple[float, float],
    **model: Any,
) -> None:
    """Make a model of WEIGHTS that were trained elsewhere: state dicts with two outputs.

    One file for each --arch, as safetensors or from torch.save; pickled code never runs. Labelled
    films that the network has not seen give calibration, threshold, abstention band and guard.

    \b
    Example:
      screen models adopt net.pt --arch resnet50 --films held-out/ --ages 1 5 --out my-model
    """
    from dataclasses import replace

    from worker.cli.progress import told
    from worker.train.adopt import adopt as run_adoption

    low, high = percentiles
    request = _request(folders, model, {"low_percentile": low, "high_percentile": high}, None)
    given: dict[str, Any] = {
        key: value for key, value in (("mean", mean), ("std", std)) if value is not None
    }
    recipes = tuple(replace(recipe, start="elsewhere", **given) for recipe in request.recipes)
    request = replace(request, recipes=recipes)
    with stoppable(lambda: "no model was written; the same command begins anew"), told() as tell:
        card = run_adoption(request, weights, _say, tell)
    _said(card, request)


def _request(
    folders: tuple[Path, ...],
    model: dict[str, Any],
    changes: dict[str, Any],
    checkpoints: Path | None,
) -> "TrainingRequest":
    from dataclasses import replace

    from models.cards import Population, checked_labels
    from worker.inference.engine import choose_device
    from worker.train.recipe import Recipe
    from worker.train.request import TrainingRequest, members

    changes = {"size_px": model["size_px"], **changes}
    recipe = replace(
        Recipe(), **{key: value for key, value in changes.items() if value is not None}
    )
    youngest, oldest = model["ages"]
    return TrainingRequest(
        folders=folders,
        outside=model["outside"],
        out=model["out"],
        name=model["name"],
        version=model["model_version"],
        population=Population(
            description=model["population"], min_age_years=youngest, max_age_years=oldest
        ),
        recipes=members(recipe, model["architectures"]),
        device=choose_device(model["device"]),
        command=shlex.join(["screen", *sys.argv[1:]]),
        checkpoints=checkpoints,
        labels=checked_labels(model["labels"]),
    )


def _say(line: str) -> None:
    from worker.cli.progress import say

    say(line, err=True)


def _said(card: "Card", request: "TrainingRequest") -> None:
    """Print what was measured on held-out films, and where the model is."""
    for domain, found in card.metrics["held_out_domains"].items():
        click.echo(
            f"{domain} held out: AUC {found['auc']:.3f}, sensitivity {found['sensitivity']:.3f}, "
            f"specificity {found['specificity']:.3f}, answered {found['answered']:.3f}"
        )
    out = shlex.quote(str(request.out))
    click.echo(f"wrote {out}; try it: screen classify --model {out} FILM")
