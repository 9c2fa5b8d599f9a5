"""What is asked of a training."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.architectures import family_of
from models.cards import Population
from worker.labels import LABELS
from worker.records import Labels
from worker.train.recipe import Recipe


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on and what to say of it. `outside` holds films of another population.

    Each of `recipes` gives one member of the model. Folds on which nothing is chosen are trained
    only for an `audit`. `labels` name the class folders, negative first. Checkpoints go to
    `checkpoints` and stay there, else into `out` until the model is finished.
    """

    folders: tuple[Path, ...]
    outside: tuple[Path, ...]
    out: Path
    name: str
    version: str
    population: Population
    recipes: tuple[Recipe, ...]
    device: torch.device
    command: str
    checkpoints: Path | None = None
    audit: bool = True
    labels: Labels = LABELS


def members(recipe: Recipe, architectures: Iterable[str]) -> tuple[Recipe, ...]:
    """One recipe for each architecture: a seed of its own, and its start weights' normalisation.

    Raises UnknownModel for an unknown architecture.
    """
    families = [(name, family_of(name)) for name in architectures]
    return tuple(
        replace(
            recipe,
            architecture=name,
            seed=recipe.seed + number,
            mean=family.mean,
            std=family.std,
        )
        for number, (name, family) in enumerate(families)
    )
