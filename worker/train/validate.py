"""Validation that tells the truth: hold out a whole domain, never a random share of all.

Random or patient-grouped folds of the training set look perfect, because everything that tells
its sources apart tells its classes apart too. Leaving one source of normal films out, together
with the patients of one half of the pneumonias, asks what the model knows of a hospital it has
not seen.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.ensemble import Ensemble
from worker.imaging.prepare import stretch
from worker.inference.guard import features
from worker.progress import Tell, nobody
from worker.train.dataset import TrainingSet
from worker.train.recipe import Recipe

_BATCH = 64
_NUMBERED = re.compile(r"^(?:person|(?:NORMAL2-)?IM-)(\d+)$")  # patients of the Kermany set
_NEGATIVE, _POSITIVE = 0, 1

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fold:
    """One held-out domain: which films (N,) its model is trained on, and which it is tested on.

    Constants are chosen on the folds that `choose`; the others are reported beside them.
    """

    name: str
    trained: Mask
    held_out: Mask
    chooses: bool = True


def folds(films: TrainingSet) -> Iterator[Fold]:
    """For each source of negative films: hold it out with half of the other class's patients.

    For each kind of positive ones: train on the others, of half of the patients, and test on this
    kind in the other half; so the negative films. No patient is on both sides. With one domain per
    class there is a single fold: half of the patients of both classes.
    """
    half = np.array([block(film.group) for film in films.films])
    targets, domains = films.targets, films.domains
    sources = sorted(set(domains[targets == _NEGATIVE]))
    if len(sources) < 2:
        yield half_of_the_patients(films)
        return
    for index, name in enumerate(sources):
        others = (targets == _POSITIVE) & (half == index % 2)
        held_out = (domains == name) | others
        yield Fold(name, ~held_out, held_out)
    kinds = sorted(set(domains[targets == _POSITIVE]))
    for index, name in enumerate(kinds if len(kinds) > 1 else []):
        here = half == index % 2
        of_kind = (targets == _NEGATIVE) | (domains == name)
        other_kind = (targets == _NEGATIVE) | (domains != name)
        fold = Fold(name, ~here & other_kind, here & of_kind, chooses=False)
        if all(len(set(targets[side])) == 2 for side in (fold.trained, fold.held_out)):
            yield fold


def half_of_the_patients(films: TrainingSet) -> Fold:
    """The single fold where there are no domains to hold out."""
    half = np.array([block(film.group) for film in films.films])
    return Fold("half of the patients", half == 1, half == 0)


def block(group: str) -> int:
    """Half of a patient: of numbered ones blocks of 256 consecutive numbers, else by a hash."""
    if number := _NUMBERED.search(group):
        return int(number[1]) // 256 % 2
    return hashlib.sha256(group.encode()).digest()[0] % 2


@dataclass(frozen=True)
class Scores:
    """Margins (second − first logit) of films, (N,); their features (N, D) and truth.

    `targets` (N,) are class indices; `patients` (N,) number the patients.
    """

    margins: NDArray[np.float64]
    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    patients: NDArray[np.int64]


def score(
    network: Ensemble,
    films: TrainingSet,
    recipe: Recipe,
    device: torch.device,
    tell: Tell = nobody,
) -> Scores:
    """Score films as they are served: no augmentation, float32, normalisation folded."""
    network = network.folded().to(device, memory_format=torch.channels_last)  # type: ignore
    margins, joined = [np.empty(0)], [np.empty((0, network.depth_channels), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(films.films), _BATCH):
            tell("scoring films", start, len(films.films), "film")
            answer = network(served(films.pixels[start : start + _BATCH], recipe).to(device))
            margins.append(answer.margins.double().cpu().numpy())
            joined.append(features(answer.depths).cpu().numpy())
    tell("scoring films", len(films.films), len(films.films), "film")
    _, patients = np.unique([film.group for film in films.films], return_inverse=True)
    return Scores(np.concatenate(margins), np.concatenate(joined), films.targets, patients)


def served(films: NDArray[np.uint8], recipe: Recipe) -> torch.Tensor:
    """Prepare squashed films (N, S, S) as serving does, (N, 1, S, S) float32."""
    low, high = recipe.low_percentile, recipe.high_percentile
    prepared = [stretch(film.astype(np.float32) / 255, low, high) for film in films]
    tensor = torch.from_numpy(np.stack(prepared))[:, None]
    return tensor.contiguous(memory_format=torch.channels_last)
