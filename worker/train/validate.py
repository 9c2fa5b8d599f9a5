"""Validation that tells the truth: hold out a whole domain, never a random share of all.

Random or patient-grouped folds of the training set look perfect, because everything that tells
its sources apart tells its classes apart too. Leaving one source of normal films out, together
with the patients of one half of the pneumonias, asks what the model knows of a hospital it has
not seen.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.architectures import Classifier
from worker.imaging.prepare import stretch
from worker.inference.guard import features
from worker.labels import LABELS
from worker.train.dataset import TrainingSet
from worker.train.recipe import Recipe

_BATCH = 64


@dataclass(frozen=True)
class Fold:
    """One held-out domain: `held_out` (N,) marks the films that the fold's model never sees."""

    name: str
    held_out: NDArray[np.bool_]


def folds(training_set: TrainingSet) -> Iterator[Fold]:
    """For each domain of each class with several: hold it out with half the other class's patients.

    With one domain per class there is a single fold: half of the patients of both classes.
    """
    films = training_set.films
    domains = np.array([film.domain for film in films])
    targets = training_set.targets
    half = np.array([_half(film.group) for film in films])
    normal = LABELS.index("NORMAL")
    names = sorted(set(domains[targets == normal]))
    if len(names) < 2:
        yield Fold("half of the patients", half == 0)
        return
    for index, name in enumerate(names):
        others = (targets != normal) & (half == index % 2)
        yield Fold(name, (domains == name) | others)


def _half(group: str) -> int:
    """Half of a patient: blocks of 256 consecutive numbers, else a hash of the name."""
    number = group.removeprefix("person")
    if number != group and number.isdigit():
        return int(number) // 256 % 2
    return hashlib.sha256(group.encode()).digest()[0] % 2


@dataclass(frozen=True)
class Scores:
    """Margins (PNEUMONIA − NORMAL logit) of films, (N,); their features (N, D) and targets (N,)."""

    margins: NDArray[np.float64]
    features: NDArray[np.float32]
    targets: NDArray[np.int64]


def score(
    classifier: Classifier, training_set: TrainingSet, recipe: Recipe, device: torch.device
) -> Scores:
    """Score films as they are served: no augmentation, float32."""
    classifier = classifier.to(device)
    margins, joined = [np.empty(0)], [np.empty((0, classifier.depth_channels), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(training_set.films), _BATCH):
            films = training_set.pixels[start : start + _BATCH]
            answer = classifier(served(films, recipe).to(device))
            margins.append((answer.logits[:, 1] - answer.logits[:, 0]).double().cpu().numpy())
            joined.append(features(answer.depths).cpu().numpy())
    return Scores(np.concatenate(margins), np.concatenate(joined), training_set.targets)


def served(films: NDArray[np.uint8], recipe: Recipe) -> torch.Tensor:
    """Prepare squashed films (N, S, S) as serving does, (N, 1, S, S) float32."""
    low, high = recipe.low_percentile, recipe.high_percentile
    prepared = [stretch(film.astype(np.float32) / 255, low, high) for film in films]
    tensor = torch.from_numpy(np.stack(prepared))[:, None]
    return tensor.contiguous(memory_format=torch.channels_last)
