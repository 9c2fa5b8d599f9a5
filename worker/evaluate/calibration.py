"""Whether a score of 0.7 means that 70 of 100 films are positive."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Bins:
    """Films by score in equal-width bins of [0, 1], arrays (bins,).

    `scores` is the sum of their scores, `positives` how many truly are positive.
    """

    count: NDArray[np.float64]
    scores: NDArray[np.float64]
    positives: NDArray[np.float64]


def bin_of(scores: NDArray[np.float64], bins: int = BINS) -> NDArray[np.int64]:
    """The bin of each score: [0, 1/bins), [1/bins, 2/bins), …, and 1 is in the last one."""
    edges = np.arange(1, bins) / bins
    return np.searchsorted(edges, scores, side="right").astype(np.int64)


def reliability(truth: NDArray[np.bool_], scores: NDArray[np.float64], bins: int = BINS) -> Bins:
    """Gather films (n,) by score."""
    index = bin_of(scores, bins)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(index, weights=values, minlength=bins).astype(np.float64)

    return Bins(total(np.ones_like(scores)), total(scores), total(truth.astype(np.float64)))


def expected_calibration_error(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], bins: int = BINS
) -> float:
    """Mean gap between the score and the share of positives, over bins, weighted by their films.

    Σ_b n_b/n · |share of positives in b − mean P(positive) in b|: of the positive class's
    probability, as Naeini, Cooper and Hauskrecht (AAAI 2015) define it, not of the confidence in
    the predicted class, as Guo et al. (ICML 2017) do. 0 is perfect; needs one film or more.
    """
    films = reliability(truth, scores, bins)
    return float(np.abs(films.positives - films.scores).sum() / len(scores))
