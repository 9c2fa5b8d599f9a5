"""The points behind the figures, as arrays; scikit-learn's where it has them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from worker.evaluate.sample import Sample

Floats = NDArray[np.float64]

_POINTS = 500  # more than a figure can show


@dataclass(frozen=True)
class Curve:
    """Points (n,) of a curve in drawing order; both axes are shares in [0, 1]."""

    x: Floats
    y: Floats


def roc(films: Sample) -> Curve:
    """Sensitivity (y) over 1 − specificity (x); needs both classes."""
    false_alarms, found, _ = roc_curve(films.truth, films.scores)
    return _thin(false_alarms, found)


def precision_recall(films: Sample) -> Curve:
    """Precision (y) over recall (x), by rising recall; needs a positive film."""
    precision, recall, _ = precision_recall_curve(films.truth, films.scores, drop_intermediate=True)
    return _thin(recall[::-1], precision[::-1])


def risk_coverage(films: Sample) -> Curve:
    """Error rate (y) of the most certain films when a share of all (x) is answered.

    Selective classification (El-Yaniv and Wiener, JMLR 2010). Certainty is the score's distance
    from the threshold, as a share of the room on its side; films alike in it come together.
    """
    room = np.where(films.called, 1 - films.threshold, films.threshold)
    certainty = np.abs(films.scores - films.threshold) / np.maximum(room, 1e-12)
    order = np.argsort(-certainty, kind="stable")
    wrong = np.cumsum((films.truth != films.called)[order])
    last = np.flatnonzero(np.diff(certainty[order], append=-1.0))  # the last of each tie
    answered = last + 1
    return _thin(answered / len(order), wrong[last] / answered)


def wilson(positives: Floats, count: Floats, z: float = 1.96) -> tuple[Floats, Floats]:
    """95% interval of a share in each bin, sound for few films too (Wilson, JASA 1927)."""
    share = positives / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _thin(x: Floats, y: Floats) -> Curve:
    """At most `_POINTS` of the points, evenly taken, both ends kept."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().astype(int))
    return Curve(x[keep], y[keep])
