"""The training films in memory, and the draws of an epoch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from worker.errors import FilmError, NothingRead
from worker.folders import regular_files
from worker.imaging.decode import decode
from worker.imaging.prepare import levels, square
from worker.labels import LABELS, LabelledFilm, class_folders
from worker.progress import Tell, nobody
from worker.records import Labels
from worker.train.augment import augment
from worker.train.recipe import Recipe


@dataclass(frozen=True)
class TrainingSet:
    """Films squashed to squares: `pixels` uint8 (N, S, S); `films`, their truth in that order.

    `aspects` (N,) are width / height before the squash; `labels` the two classes, negative first.
    """

    pixels: NDArray[np.uint8]
    films: tuple[LabelledFilm, ...]
    aspects: NDArray[np.float64]
    labels: Labels = LABELS

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class of each film, (N,): 0 negative, 1 positive, -1 without truth."""
        return np.array(
            [self.labels.index(f.label) if f.label else -1 for f in self.films], np.int64
        )

    @property
    def domains(self) -> NDArray[np.str_]:
        """The source of each film, (N,)."""
        return np.array([film.domain for film in self.films], dtype=np.str_)

    @property
    def sha256(self) -> str:
        """Identity of films and truth together."""
        truth = "\n".join(f"{film.label}/{film.domain}/{film.group}" for film in self.films)
        digest = hashlib.sha256(truth.encode("utf-8", "backslashreplace"))
        digest.update(self.pixels.tobytes())
        return digest.hexdigest()

    def subset(self, keep: NDArray[np.bool_]) -> "TrainingSet":
        """The films where `keep` (N,) is true."""
        films = tuple(film for film, kept in zip(self.films, keep, strict=True) if kept)
        return replace(self, pixels=self.pixels[keep], films=films, aspects=self.aspects[keep])


def load_training_set(
    folders: Sequence[Path], size_px: int, labels: Labels = LABELS, tell: Tell = nobody
) -> TrainingSet:
    """Decode all films of several class folders, which are named by the labels.

    Raises NothingRead when no film could be decoded, UsageError when class folders are missing.
    """
    films = [film for folder in folders for film in class_folders(folder, labels)]
    training_set = replace(_decoded(films, size_px, tell), labels=labels)
    if not training_set.films:
        raise NothingRead(f"no film could be read in {', '.join(map(str, folders))}")
    return training_set


def load_films(folders: Sequence[Path], size_px: int, tell: Tell = nobody) -> TrainingSet:
    """Decode all films below some folders, without truth; none is no error."""
    paths = (path for folder in folders for path in regular_files(folder))
    films = [LabelledFilm(path, "", path.name, "outside") for path in paths]
    return _decoded(films, size_px, tell)


def _decoded(films: Sequence[LabelledFilm], size_px: int, tell: Tell) -> TrainingSet:
    """Decode films, leaving out what is none."""
    pixels, kept, aspects = [np.empty((0, size_px, size_px), dtype=np.uint8)], [], []
    for number, film in enumerate(films):
        tell("reading films", number, len(films), "film")
        try:
            decoded = decode(film.path.read_bytes())
        except FilmError:
            continue
        pixels.append(
            levels(square(decoded.pixels, size_px, (decoded.rows, decoded.columns)))[None]
        )
        kept.append(film)
        aspects.append(decoded.columns / decoded.rows)
    tell("reading films", len(films), len(films), "film")
    return TrainingSet(np.concatenate(pixels), tuple(kept), np.array(aspects))


def draws(films: Sequence[LabelledFilm], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` film indices: classes equally often, and within a class its domains."""
    keys = np.array([f"{film.label}/{film.domain}" for film in films])
    groups = np.array([film.group for film in films])
    labels = np.array([film.label for film in films])
    weight = np.zeros(len(films))
    for label in np.unique(labels):
        domains = np.unique(keys[labels == label])
        for domain in domains:
            inside = np.flatnonzero(keys == domain)
            _, index, counts = np.unique(groups[inside], return_inverse=True, return_counts=True)
            share = 1 / np.sqrt(counts[index])  # patients with many films count more, not by films
            weight[inside] = share / share.sum() / len(domains)
    return rng.choice(len(films), size=count, p=weight / weight.sum()).astype(np.int64)


class Epoch(Dataset[tuple[torch.Tensor, int]]):
    """One epoch of augmented draws; each depends only on seed, epoch and position.

    Gives films (1, S, S) with their class index; -1 for films of another population, of which
    `Recipe.outside_share` as many are mixed in.
    """

    def __init__(
        self, known: TrainingSet, outside: TrainingSet, recipe: Recipe, epoch: int
    ) -> None:
        self._sets, self._recipe, self._epoch = (known, outside), recipe, epoch
        self._targets = known.targets
        rng = np.random.default_rng([recipe.seed, epoch])
        count = len({film.path.name for film in known.films})  # copies count once
        drawn = [(0, index) for index in draws(known.films, count, rng)]
        if outside.films:
            others = rng.integers(len(outside.films), size=int(recipe.outside_share * count))
            drawn += [(1, index) for index in others]
        self._order = [drawn[place] for place in rng.permutation(len(drawn))]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        rng = np.random.default_rng([self._recipe.seed, self._epoch, position])
        which, index = self._order[position]
        recipe, size = self._recipe, self._recipe.size_of(self._epoch)
        pixels = self._sets[which].pixels[index]
        film = augment(pixels, rng, recipe.low_percentile, recipe.high_percentile)
        if size != film.shape[0]:
            small = cv2.resize(film, (size, size), interpolation=cv2.INTER_AREA)
            film = np.asarray(small, dtype=np.float32)
        target = int(self._targets[index]) if which == 0 else -1
        return torch.from_numpy(film)[None], target  # (1, S, S)
