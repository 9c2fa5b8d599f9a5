"""95% intervals that know that films of one patient are alike.

Whole patients are drawn with replacement, as many as there are (the cluster bootstrap: Field and
Welsh, J. R. Stat. Soc. B 2007), and the 2.5th and 97.5th percentile of each metric taken (Efron
and Tibshirani 1993, chapter 13). Drawing films would count ten films of one child as ten children.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worker.evaluate.calibration import BINS, bin_of
from worker.evaluate.sample import Sample
from worker.records import Labels

Floats = NDArray[np.float64]
Interval = tuple[float, float]

LEVEL = 0.95
_CELLS = 1_000_000  # weights held at once: 8 MB, which stays near the cache
_RATES = ("precision", "recall", "f1")
MEANS = ("macro", "weighted")  # of the classes: lower case, as no label is


def names(labels: Labels) -> tuple[str, ...]:
    """Names of all metrics, those of a class with a dot: `f1.PNEUMONIA`, `f1.macro`."""
    of_classes = (f"{rate}.{of}" for rate in _RATES for of in (*labels, *MEANS))
    return ("auc", "accuracy", "sensitivity", "specificity", *of_classes, "brier", "ece")


def resample(films: Sample, seed: int, resamples: int) -> dict[str, Floats]:
    """Every metric of `names` on each draw of patients: arrays (resamples,), NaN where undefined.

    With fewer than two patients there is nothing to draw and the arrays are empty.
    """
    patients = int(films.groups.max(initial=-1)) + 1
    if patients < 2:
        return {name: np.empty(0) for name in names(films.labels)}
    draws = _draws(patients, len(films.truth), seed, resamples)
    parts = [weigh(films, weights) for weights in draws]
    return {name: np.concatenate([part[name] for part in parts]) for name in names(films.labels)}


def intervals(draws: dict[str, Floats], level: float = LEVEL) -> dict[str, Interval | None]:
    """Percentile interval of each metric over its draws.

    `None` when there are no draws or more than half of them leave the metric undefined: the films
    are then too few, or of one class only, to tell.
    """
    tails = [50 * (1 - level), 50 * (1 + level)]
    found: dict[str, Interval | None] = {}
    for name, values in draws.items():
        valid = values[~np.isnan(values)]
        found[name] = None
        if len(valid) and 2 * len(valid) >= len(values):
            low, high = np.percentile(valid, tails)
            found[name] = (float(low), float(high))
    return found


def weigh(films: Sample, weights: Floats) -> dict[str, Floats]:
    """Every metric of `names` when patients count `weights` (draws, patients) times: (draws,)."""
    order = np.argsort(films.scores, kind="stable")
    ranked = films.scores[order]
    starts = np.flatnonzero(np.diff(ranked, prepend=-1.0))  # where each distinct score begins
    auc = _auc(weights[:, films.groups[order]], films.truth[order], starts)
    return {"auc": auc, **_others(weights @ _patient_sums(films, weights.shape[1]), films.labels)}


def _draws(patients: int, films: int, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each patient is drawn: (some draws, patients) at a time, to bound the memory."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // max(patients, films))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(patients, size=(rows, patients))
        drawn += patients * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)


def _patient_sums(films: Sample, patients: int) -> Floats:
    """What each patient adds: (patients, 5 + BINS).

    Columns are tn, fp, fn, tp, the squared error, and the gap of each calibration bin.
    """
    sums = np.zeros((patients, 5 + BINS))
    gap = films.truth - films.scores
    np.add.at(sums, (films.groups, 2 * films.truth + films.called), 1.0)
    np.add.at(sums, (films.groups, np.full_like(films.groups, 4)), gap**2)
    np.add.at(sums, (films.groups, 5 + bin_of(films.scores)), gap)
    return sums


def _others(sums: Floats, labels: Labels) -> dict[str, Floats]:
    """All metrics but AUC from the sums of each draw (draws, 5 + BINS)."""
    tn, fp, fn, tp = sums[:, :4].T
    n = tn + fp + fn + tp
    right, support = np.stack((tn, tp)), np.stack((tn + fp, fn + tp))  # (2, draws): negative first
    called = np.stack((tn + fn, fp + tp))
    recall = _ratio(right, support)
    metrics = {
        "accuracy": (tn + tp) / n,
        "sensitivity": recall[1],
        "specificity": recall[0],
        "brier": sums[:, 4] / n,
        "ece": np.abs(sums[:, 5:]).sum(axis=1) / n,
    }
    rates = (_ratio(right, called), recall, _ratio(2 * right, called + support))
    for name, values in zip(_RATES, rates, strict=True):
        shares = np.where(support > 0, support / n * values, 0.0)
        means = (values[0], values[1], values.mean(axis=0), shares.sum(axis=0))
        metrics |= {f"{name}.{of}": mean for of, mean in zip((*labels, *MEANS), means, strict=True)}
    return metrics


def _auc(weights: Floats, truth: NDArray[np.bool_], starts: NDArray[np.int64]) -> Floats:
    """Weighted AUC of each draw: P(a positive film outscores a negative one), ties counting half.

    `weights` are (draws, n) by rising score, `starts` is where each distinct score begins. This is
    the Mann-Whitney statistic (Hanley and McNeil, Radiology 1982).
    """
    positive = np.add.reduceat(weights * truth, starts, axis=1)  # (draws, distinct scores)
    negative = np.add.reduceat(weights * ~truth, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio((positive * below).sum(axis=1), pairs)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide, with NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
