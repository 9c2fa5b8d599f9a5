"""What the page of an evaluation draws, as numbers for `evaluate --json`."""

from collections.abc import Sequence

import numpy as np

from worker.evaluate import curves
from worker.evaluate.calibration import BINS, reliability
from worker.evaluate.curves import Curve
from worker.evaluate.page import most_wrong
from worker.evaluate.sample import Sample, Scored, decoded, sample
from worker.labels import LABELS
from worker.records import Labels

Numbers = list[float]


def details(
    scored: Sequence[Scored], threshold: float, count: int, labels: Labels = LABELS
) -> dict[str, object]:
    """The keys `curves` and `most_wrong` of the JSON, the latter with `count` films at the most.

    ROC and precision with recall are `None` where the films are of one class, as on the page.
    """
    films = sample(decoded(scored), threshold, labels)
    both = films.has_both_classes
    return {
        "curves": {
            "roc": _points(curves.roc(films), "fpr", "tpr") if both else None,
            "precision_recall": (
                _points(curves.precision_recall(films), "recall", "precision") if both else None
            ),
            "risk_coverage": _points(curves.risk_coverage(films), "coverage", "risk"),
            "reliability": _reliability(films),
        },
        "most_wrong": [
            {
                "file": film.record.file,
                "label": film.label,
                "probability": film.record.probability,
                "decision": film.record.decision,
            }
            for film in most_wrong(scored, count, labels)
        ],
    }


def _points(curve: Curve, x: str, y: str) -> dict[str, Numbers]:
    return {x: curve.x.tolist(), y: curve.y.tolist()}


def _reliability(films: Sample) -> list[dict[str, object]]:
    """The bins of the calibration figure; in an empty one nothing but its ends and count."""
    bins = reliability(films.truth, films.scores)
    edges = np.linspace(0, 1, BINS + 1)
    full = np.maximum(bins.count, 1)  # an empty bin has no share: its values are not used
    low, high = curves.wilson(bins.positives, full)
    return [
        {
            "low": float(edges[index]),
            "high": float(edges[index + 1]),
            "count": int(count),
            "mean_probability": float(bins.scores[index] / count) if count else None,
            "share_positive": float(bins.positives[index] / count) if count else None,
            "wilson_interval": [float(low[index]), float(high[index])] if count else None,
        }
        for index, count in enumerate(bins.count)
    ]
