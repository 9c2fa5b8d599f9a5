"""Does the network use what a map shows? Films are taken apart in the order of the map.

Deletion and insertion (Petsiuk et al. 2018, "RISE") and ROAD (Rong et al. 2022).
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.torchvision_compat import torchvision_models

Films = NDArray[np.float32]
Scores = NDArray[np.float64]
Answers = Callable[[Films], Scores]  # (N, S, S) → log-odds (N,)

STEPS = np.linspace(0, 1, 11)
ROAD_STEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
_ROAD_SIDE = 56  # the linear system is solved for films of this side: at 224 it takes seconds
_ROAD_NOISE = 0.01  # as pytorch-grad-cam's


def blurred(films: Films) -> Films:
    """Each pixel the average around it: Gaussian, sigma a tenth of the side."""
    sigma = films.shape[1] / 10
    return np.stack([cv2.GaussianBlur(film, (0, 0), sigma) for film in films])


def ranks(order: Films, rng: np.random.Generator) -> Films:
    """Share of pixels that are hotter, (N, S, S) in [0, 1); ties are broken at random."""
    flat = order.reshape(len(order), -1)
    tie = rng.random(flat.shape[1])
    found = np.empty_like(flat, dtype=np.float32)
    for film, row in enumerate(flat):
        found[film, np.lexsort((tie, -row))] = np.arange(row.size, dtype=np.float32) / row.size
    return found.reshape(order.shape)


def deletion_insertion(
    answers: Answers, films: Films, replaced: Films, rank: Films
) -> tuple[Scores, Scores]:
    """Areas under the probability as the hottest pixels go, or come first, (N,) each.

    `replaced` (N, S, S) holds the pixels that stand where the film's own do not.
    """
    hottest = [rank < step for step in STEPS]
    gone = [answers(np.where(mask, replaced, films)) for mask in hottest]
    come = [answers(np.where(mask, films, replaced)) for mask in hottest[1:-1]]
    return _area(gone), _area([gone[-1], *come, gone[0]])


def _area(log_odds: list[Scores]) -> Scores:
    probability = 1 / (1 + np.exp(-np.stack(log_odds)))  # (steps, N)
    return np.asarray(np.trapezoid(probability, STEPS, axis=0), np.float64)


def road(answers: Answers, films: Films, rank: Films, rng: np.random.Generator) -> Scores:
    """(coldest removed − hottest removed) / 2 in log-odds, mean over the steps, (N,): high is good.

    Removed pixels are imputed from those around the hole, so that its shape tells nothing.
    """
    scores = []
    for step in ROAD_STEPS:
        hottest = answers(imputed(films, rank < step, rng))
        coldest = answers(imputed(films, rank >= 1 - step, rng))
        scores.append((coldest - hottest) / 2)
    return np.asarray(np.mean(scores, axis=0), np.float64)


def imputed(films: Films, removed: NDArray[np.bool_], rng: np.random.Generator) -> Films:
    """Films with removed pixels (N, S, S) filled by pytorch-grad-cam's linear imputer."""
    torchvision_models()
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    fill = NoisyLinearImputer(noise=0)
    side = films.shape[1]
    result = films.copy()
    for film, hole in zip(result, removed, strict=True):
        known = (~hole).astype(np.float32)
        share = _resized(known, _ROAD_SIDE)
        small = _resized(film * known, _ROAD_SIDE) / np.maximum(share, 1e-6)  # of known pixels
        mask = torch.from_numpy((share > 0.5).astype(np.float32))
        filled: Any = fill(torch.from_numpy(small)[None], mask)[0].numpy()
        smooth = cv2.resize(filled, (side, side), interpolation=cv2.INTER_LINEAR)
        noise = _ROAD_NOISE * rng.standard_normal(film.shape)
        film[hole] = (smooth + noise).astype(np.float32)[hole]
    return result


def _resized(film: Films, side: int) -> Films:
    return np.asarray(cv2.resize(film, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def interval(
    values: Scores, groups: NDArray[np.str_], rng: np.random.Generator, repeats: int = 2000
) -> tuple[float, float]:
    """95% bootstrap interval of the mean, drawing patients (`groups` (N,)) and not films."""
    names, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, values, minlength=len(names))
    counts = np.bincount(index, minlength=len(names))
    drawn = rng.integers(len(names), size=(repeats, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
