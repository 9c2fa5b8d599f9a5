"""Fit the guard on features of a trained network; its limits on domains held out from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from worker.inference.guard import Guard, mahalanobis, project

GUARD_THRESHOLD = 0.5  # where the limits come to, see `worker.inference.guard.odds`
_AXES = 96
_KEPT = 0.995  # share of known films that stay inside each limit, on the worst held-out domain
_NEVER = -20.0  # bias of the adult plane when no adult films were given

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FoldFeatures:
    """Features by one fold's network: films it was trained on, held-out films, films outside.

    Limits are set on the folds that `choose`.
    """

    trained: Features
    held_out: Features
    outside: Features
    chooses: bool = True


def fit_guard(
    films: Features, outside: Features, folds: Sequence[FoldFeatures]
) -> dict[str, Tensor]:
    """Fit the guard's tensors (see `worker.inference.guard`).

    `films` (N, D) are of the validated population, `outside` (M, D; M may be 0) are frontal chest
    films of another one. A network knows the films it was trained on too well, so each limit is
    moved by what the folds say of films that a network has not seen.
    """
    tensors = _fit(films, outside)
    unseen = [_unseen(fold) for fold in folds if fold.chooses]
    for name in ("film", "chest"):
        inflation = max(_inflation(guard, axes, name) for guard, axes in unseen)
        tensors[f"{name}_limit"] = tensors[f"{name}_limit"] * inflation
    if len(outside):
        shift = max(_adult_quantile(guard, axes) for guard, axes in unseen)
        tensors["adult_bias"] = tensors["adult_bias"] - shift
    return tensors


def _fit(films: Features, outside: Features) -> dict[str, Tensor]:
    scale = films.std(axis=0) + 1e-6
    everything = np.concatenate([films, outside])
    standard = (everything - films.mean(axis=0)) / scale
    pca = PCA(min(_AXES, *standard.shape), random_state=0).fit(standard)
    axes = pca.transform(standard)
    known = axes[: len(films)]
    tensors = {
        "centre": films.mean(axis=0) + pca.mean_ * scale,
        "basis": (pca.components_ / scale).T,
        **_gaussian("film", known, [known]),
        **_gaussian("chest", axes, [known, axes[len(films) :]]),
        "adult_weight": np.zeros(axes.shape[1]),
        "adult_bias": np.array(_NEVER),
    }
    if len(outside):
        labels = np.arange(len(axes)) >= len(films)
        spread = axes.std(axis=0)
        plane = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
        plane.fit(axes / spread, labels)
        tensors["adult_weight"] = plane.coef_[0] / spread
        tensors["adult_bias"] = np.array(plane.intercept_[0])
    return {name: torch.as_tensor(value, dtype=torch.float32) for name, value in tensors.items()}


def _gaussian(
    name: str, axes: NDArray[np.float64], populations: Sequence[NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """A Gaussian of `axes`, its limit such that enough of each population stay inside."""
    estimate = LedoitWolf().fit(axes)
    limits = [
        np.quantile(np.sqrt(estimate.mahalanobis(films)), _KEPT)
        for films in populations
        if len(films)
    ]
    return {
        f"{name}_mean": estimate.location_,
        f"{name}_precision": estimate.precision_,
        f"{name}_limit": np.array(max(limits)),
    }


@dataclass(frozen=True)
class Judged:
    """Guard scores, in [0, 1], of films that neither a fold's network nor its planes have seen."""

    held_out: Features
    outside: Features

    def refused_shares(self) -> dict[str, float]:
        """What the guard refuses of each, where there are any."""
        named = {"held_out": self.held_out, "outside": self.outside}
        return {
            name: round(float((scores > GUARD_THRESHOLD).mean()), 4)
            for name, scores in named.items()
            if len(scores) or name == "held_out"
        }


def judge(fold: FoldFeatures) -> Judged:
    """Score what is new to a fold, its limits moved as in `fit_guard` by this fold alone.

    The second half of the films outside is kept from network and fit.
    """
    half = len(fold.outside) // 2
    seen = replace(fold, outside=fold.outside[:half], chooses=True)
    guard = Guard(fit_guard(fold.trained, seen.outside, [seen]))
    new = (fold.held_out, fold.outside[half:])
    return Judged(*(guard.judge(torch.from_numpy(films)).score.numpy() for films in new))


def _unseen(fold: FoldFeatures) -> tuple[dict[str, Tensor], Tensor]:
    """A guard fitted on what the fold's network was trained on, and its axes of unseen films."""
    guard = _fit(fold.trained, fold.outside)
    return guard, project(torch.from_numpy(fold.held_out), guard["centre"], guard["basis"])


def _inflation(guard: dict[str, Tensor], axes: Tensor, name: str) -> float:
    """How much farther a fold's unseen films lie than those it was trained on."""
    distances = mahalanobis(axes, guard[f"{name}_mean"], guard[f"{name}_precision"])
    return max(1.0, float(np.quantile(distances, _KEPT) / guard[f"{name}_limit"]))


def _adult_quantile(guard: dict[str, Tensor], axes: Tensor) -> float:
    """Log-odds of being adult below which nearly all of a fold's unseen films stay."""
    log_odds = axes @ guard["adult_weight"] + guard["adult_bias"]
    return max(0.0, float(np.quantile(log_odds, _KEPT)))
