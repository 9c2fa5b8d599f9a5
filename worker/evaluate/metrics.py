"""From labelled records to the numbers that `evaluate --json` gives.

Positive is the second label of the model throughout. What the films cannot tell is `None` (null in
JSON), never NaN and never 0: one class alone has no AUC, and a class that was never called has no
precision.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, precision_recall_fscore_support, roc_auc_score

from worker.errors import NothingRead
from worker.evaluate import bootstrap
from worker.evaluate.bootstrap import MEANS, Interval
from worker.evaluate.calibration import expected_calibration_error
from worker.evaluate.sample import Sample, Scored, decoded, is_answered, sample
from worker.labels import LABELS
from worker.records import Decision, Labels, Record

RESAMPLES = 2000
SEED = 2026


# One metric for each class taken as the positive one, by label (negative, positive), then both
# means: `macro` weighs the classes alike, `weighted` by their films. A mean over a class whose
# value is not defined is itself not defined.
PerClass = dict[str, float | None]


@dataclass(frozen=True)
class Confusion:
    """Films by truth and call."""

    tn: int
    fp: int
    fn: int
    tp: int


@dataclass(frozen=True)
class Metrics:
    """How well a set of films was called. Shares, probabilities and errors are in [0, 1].

    Recall of the positive label is `sensitivity`, of the negative one `specificity`.
    `confidence_intervals` are 95% and named like the metrics, those of a class with a dot:
    `f1.macro`.
    """

    n: int
    auc: float | None
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None
    precision: PerClass
    recall: PerClass
    f1: PerClass
    brier: float | None
    ece: float | None
    threshold: float
    confusion: Confusion
    confidence_intervals: dict[str, Interval | None]

    @property
    def labels(self) -> Labels:
        """The model's labels, (negative, positive)."""
        negative, positive, *_means = self.recall
        return negative, positive

    @property
    def looks_too_certain(self) -> bool:
        """Whether an interval is a single value: no error was seen, so none can be drawn."""
        rates = (self.confidence_intervals[name] for name in ("sensitivity", "specificity"))
        return any(interval is not None and interval[0] == interval[1] for interval in rates)


@dataclass(frozen=True)
class Evaluation:
    """Forced choice over all decoded films, the answered ones apart, and what was left out.

    Decoded films are answered, `indeterminate` or `refused`; `coverage` is the share of them that
    were answered with a label. `unreadable` films have no score and are in no metric.
    """

    forced: Metrics
    answered: Metrics
    coverage: float
    refused: int
    indeterminate: int
    unreadable: int
    model: str
    weights_sha256: str

    def to_json(self) -> dict[str, object]:
        """The object that `evaluate --json` writes (INTERFACE.md); JSON numbers, text and null."""
        return {
            **_json(self.forced),
            "answered": {**_json(self.answered), "coverage": self.coverage},
            "refused": self.refused,
            "indeterminate": self.indeterminate,
            "unreadable": self.unreadable,
            "model": self.model,
            "weights_sha256": self.weights_sha256,
        }


def evaluate(
    scored: Sequence[Scored],
    seed: int = SEED,
    resamples: int = RESAMPLES,
    *,
    labels: Labels = LABELS,
) -> Evaluation:
    """Measure one model, with its labels, on labelled films, whatever their order.

    Forced choice calls a decoded film positive when its probability reaches the threshold, be it
    refused or indeterminate. `seed` and `resamples` are the bootstrap's. Raises NothingRead when
    no film was decoded, ValueError for mixed models or thresholds, films with other labels, and
    impossible values.
    """
    films = decoded(scored)
    if not films:
        raise NothingRead(f"none of the {len(scored)} labelled files could be read as a film")
    answered = [film for film in films if is_answered(film.record)]
    decisions = [film.record.decision for film in films]
    record = _one_model(scored)
    return Evaluation(
        forced=measure(sample(films, record.threshold, labels), seed, resamples),
        answered=measure(sample(answered, record.threshold, labels), seed, resamples),
        coverage=len(answered) / len(films),
        refused=decisions.count(Decision.REFUSED),
        indeterminate=decisions.count(Decision.INDETERMINATE),
        unreadable=len(scored) - len(films),
        model=record.model,
        weights_sha256=record.weights_sha256,
    )


def measure(films: Sample, seed: int, resamples: int) -> Metrics:
    """Point metrics, scikit-learn's where it has them, with their bootstrap intervals."""
    truth, scores, n = films.truth, films.scores, len(films.truth)
    precision, recall, f1 = _per_class(films)
    cells = np.bincount(2 * truth + films.called, minlength=4)  # (4,) tn, fp, fn, tp
    return Metrics(
        n=n,
        auc=float(roc_auc_score(truth, scores)) if films.has_both_classes else None,
        accuracy=float(np.mean(truth == films.called)) if n else None,
        sensitivity=recall[films.labels[1]],
        specificity=recall[films.labels[0]],
        precision=precision,
        recall=recall,
        f1=f1,
        brier=float(brier_score_loss(truth, scores, pos_label=True)) if n else None,
        ece=expected_calibration_error(truth, scores) if n else None,
        threshold=films.threshold,
        confusion=Confusion(*map(int, cells)),
        confidence_intervals=bootstrap.intervals(bootstrap.resample(films, seed, resamples)),
    )


def _per_class(films: Sample) -> tuple[PerClass, PerClass, PerClass]:
    """Precision, recall and F1 of both labels."""
    if not len(films.truth):
        return (dict.fromkeys((*films.labels, *MEANS)),) * 3
    *metrics, support = precision_recall_fscore_support(
        films.truth, films.called, labels=[False, True], zero_division=np.nan
    )
    precision, recall, f1 = (_means(values, support, films.labels) for values in metrics)
    return precision, recall, f1


def _means(values: NDArray[np.float64], support: NDArray[np.int64], labels: Labels) -> PerClass:
    """Ours, for scikit-learn's means leave out a class that has no value."""
    weighted = np.average(values[support > 0], weights=support[support > 0])
    defined = map(_defined, (*values, values.mean(), weighted))
    return dict(zip((*labels, *MEANS), defined, strict=True))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _json(metrics: Metrics) -> dict[str, object]:
    values = asdict(metrics)
    values["confidence_intervals"] = {
        name: None if interval is None else list(interval)
        for name, interval in metrics.confidence_intervals.items()
    }
    return values


def _one_model(scored: Sequence[Scored]) -> Record:
    """Any record, once all are seen to share model, weights and threshold."""
    records = [film.record for film in scored]
    seen = {(record.model, record.weights_sha256, record.threshold) for record in records}
    if len(seen) > 1:
        raise ValueError(f"one evaluation is of one model and threshold; the records name {seen}")
    return records[0]
