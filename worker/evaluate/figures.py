"""The six figures of an evaluation, as inline SVG: discrimination, calibration and abstention.

Each takes decoded films as arrays and gives a `Figure`, or `None` where the films cannot show it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worker.evaluate import counts, curves
from worker.evaluate.calibration import Bins, reliability
from worker.evaluate.metrics import Evaluation, Metrics
from worker.evaluate.sample import Sample
from worker.report import chart
from worker.report.chart import Figure, Frame, figure

_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_PLOT = Frame(left=58, top=14, width=348, height=290)


def figures(
    films: Sample, evaluation: Evaluation, band: tuple[float, float] | None
) -> list[Figure]:
    """Every figure that these films can show; `band` is the abstention band of the score."""
    drawn = (
        counts.confusion(evaluation.forced.confusion, films.labels),
        counts.histogram(films, band),
        roc(films, evaluation.forced),
        precision_recall(films, evaluation.forced),
        calibration(films, evaluation.forced),
        risk_coverage(films, evaluation),
    )
    return [figure for figure in drawn if figure]


def roc(films: Sample, metrics: Metrics) -> Figure | None:
    """Sensitivity against 1 − specificity at every threshold, the one in use marked."""
    if metrics.auc is None or metrics.sensitivity is None or metrics.specificity is None:
        return None
    curve = curves.roc(films)
    point = f"sensitivity {metrics.sensitivity:.2f}, specificity {metrics.specificity:.2f}"
    parts = [
        chart.axes(_PLOT, "1 − specificity", "sensitivity", _FIFTHS, _FIFTHS),
        chart.diagonal(_PLOT),
        chart.path(_PLOT, curve.x, curve.y, "link"),
        chart.dot(_PLOT, 1 - metrics.specificity, metrics.sensitivity),
        chart.note(_PLOT, f"AUC {metrics.auc:.3f}", f"● threshold {metrics.threshold:g}", point),
    ]
    return figure(
        "roc",
        "ROC curve",
        f"AUC {metrics.auc:.3f}; at the threshold {metrics.threshold:g} {point}.",
        parts,
        f"How many films labelled {films.labels[1]} are found against how many labelled "
        f"{films.labels[0]} raise an alarm, as the threshold moves. The dashed line is guessing.",
    )


def precision_recall(films: Sample, metrics: Metrics) -> Figure | None:
    """Precision against recall of the positive label, with its share in the set."""
    positive = films.labels[1]
    precision, recall = metrics.precision[positive], metrics.recall[positive]
    if not films.has_both_classes or recall is None:
        return None
    curve = curves.precision_recall(films)
    share = float(films.truth.mean())
    named = "undefined" if precision is None else f"{precision:.2f}"
    here = f"precision {named}, recall {recall:.2f}"
    common = f"{share:.0%} of these films are {chart.short(positive)}"
    lines = (f"● threshold {metrics.threshold:g}", here, f"dashed: {common}")
    parts = [
        chart.axes(_PLOT, "recall = sensitivity", "precision", _FIFTHS, _FIFTHS),
        chart.path(_PLOT, (0, 1), (share, share), "quiet", width=1.4, dash="5 5"),
        chart.path(_PLOT, curve.x, curve.y, "link"),
        "" if precision is None else chart.dot(_PLOT, recall, precision),
        chart.note(_PLOT, *lines, left=True),
    ]
    return figure(
        "precision-recall",
        "Precision and recall",
        f"At the threshold {metrics.threshold:g} {here}; {common}.",
        parts,
        f"Of the films called {positive}, how many truly are. This depends on how common it is: "
        "where it is rarer than in this set, precision is lower.",
    )


def calibration(films: Sample, metrics: Metrics) -> Figure:
    """Share of positive films against the score in 15 bins with Wilson intervals, counts below."""
    positive = films.labels[1]
    bins = reliability(films.truth, films.scores)
    frame = Frame(left=58, top=14, width=348, height=205)
    errors = f"ECE {metrics.ece:.3f}", f"Brier score {metrics.brier:.3f}"
    parts = [
        chart.axes(frame, "", f"share {chart.short(positive)}", _FIFTHS, _FIFTHS),
        chart.diagonal(frame),
        *_bin_points(frame, bins),
        chart.note(frame, *errors),
        *_bin_counts(bins.count),
    ]
    return figure(
        "calibration",
        "Calibration",
        f"Expected calibration error (ECE) and Brier score: {', '.join(errors)}.",
        parts,
        "Whether a score means what it says: on the dashed line, 80 of 100 films scored 0.8 are "
        f"{positive}. Whiskers are 95% Wilson intervals; bars count the films in each of 15 bins.",
    )


def risk_coverage(films: Sample, evaluation: Evaluation) -> Figure:
    """Error rate against the share of films answered, if only the most certain ones are."""
    curve = curves.risk_coverage(films)
    top = _round_up(float(curve.y.max()))
    frame = Frame(58, 14, 348, 290, y=(0, top))
    ticks = [top * step / 5 for step in range(6)]
    parts = [
        chart.axes(frame, "share of films answered", "share of answers wrong", _FIFTHS, ticks),
        chart.path(frame, curve.x, curve.y, "link"),
    ]
    said = f"all answered: {curve.y[-1]:.1%} wrong"
    if evaluation.answered.accuracy is not None:
        risk = 1 - evaluation.answered.accuracy
        said = f"{evaluation.coverage:.1%} answered: {risk:.1%} wrong"
        parts.append(chart.dot(frame, evaluation.coverage, min(risk, top)))
        parts.append(chart.note(frame, "● as answered now", said, left=True, high=True))
    return figure(
        "risk-coverage",
        "What abstaining buys",
        f"Of the films, {said}.",
        parts,
        "Error rate if only the films farthest from the threshold are answered. The point is how "
        "the model answers now; refusals for other reasons move it off the curve.",
    )


def _bin_points(frame: Frame, bins: Bins) -> Iterator[str]:
    """A point with its whisker for each bin that holds films, at their mean score."""
    full = np.flatnonzero(bins.count)
    count, positives = bins.count[full], bins.positives[full]
    low, high = curves.wilson(positives, count)
    for x, y, *whisker in zip(bins.scores[full] / count, positives / count, low, high, strict=True):
        yield chart.path(frame, (x, x), whisker, "quiet", 1.5)
        yield chart.dot(frame, x, y, "link", 4.5)


def _bin_counts(count: NDArray[np.float64]) -> Iterator[str]:
    """Bars of films per bin (bins,) under the reliability diagram, each with its number."""
    frame = Frame(58, 268, 348, 42, y=(0.0, float(count.max())))
    step = frame.width / len(count)
    yield chart.text(frame.left - 7, frame.bottom, "films", "end", "quiet")
    yield '<g font-size="10">'
    for index, films in enumerate(count):
        left, top = frame.left + index * step, frame.up(films)
        yield chart.rectangle(left + 1, top, step - 2, frame.bottom - top, "var(--quiet)")
        yield chart.text(left + step / 2, top - 4, f"{films:.0f}", "middle", "quiet")
    yield "</g>"
    yield chart.text(frame.left + frame.width / 2, frame.bottom + 22, "score", "middle")


def _round_up(rate: float) -> float:
    """The next round error rate, so that the curve fills its axis."""
    return next((top for top in (0.05, 0.1, 0.2, 0.25, 0.5) if rate <= top), 1.0)
