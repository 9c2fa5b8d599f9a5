"""The evaluation as one page that a radiologist can read: words first, then tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from worker.evaluate.bootstrap import MEANS, Interval
from worker.evaluate.figures import figures
from worker.evaluate.metrics import Evaluation, Metrics
from worker.evaluate.sample import Sample, Scored, decoded, sample
from worker.labels import LABELS
from worker.records import Labels, Record
from worker.report.environment import data_uri, render


@dataclass(frozen=True)
class WrongFilm:
    """A film on the wrong side of the threshold, with small JPEGs of it where there are any."""

    record: Record
    label: str
    picture_jpeg: bytes | None
    overlay_jpeg: bytes | None


@dataclass(frozen=True)
class Headline:
    """One number in words: `value` and `interval` as text, `meaning` for who is no statistician."""

    name: str
    value: str
    interval: str
    meaning: str


@dataclass(frozen=True)
class _Thumbnail:
    record: Record
    label: str
    pictures: list[tuple[str, Markup]]


def most_wrong(scored: Sequence[Scored], count: int, labels: Labels = LABELS) -> list[Scored]:
    """Up to `count` decoded films on the wrong side of the threshold, the farthest first.

    Distance is |probability - truth|, the positive label being 1; equals are in the order of file
    names. Raises ValueError for films with other labels.
    """
    films = [film for film in decoded(scored) if _gap(film, labels) is not None]
    return sorted(films, key=lambda film: (-(_gap(film, labels) or 0.0), film.record.file))[:count]


def evaluation_page(
    evaluation: Evaluation,
    scored: Sequence[Scored],
    wrong: Sequence[WrongFilm],
    *,
    source: str,
    band: tuple[float, float] | None,
    chosen_on: str,
    remark: str = "",
) -> str:
    """Render the page of one evaluation of `scored`; it loads nothing and can be mailed as it is.

    `source` names the labelled films, `band` is the abstention band of the score, `chosen_on`
    the films that band and threshold were chosen on. `remark` says what is
    special about the labels.
    """
    films = sample(decoded(scored), evaluation.forced.threshold, evaluation.forced.labels)
    return render(
        "evaluation.html",
        evaluation=evaluation,
        labels=evaluation.forced.labels,
        cells=evaluation.forced.confusion,
        patients=_patients(films),
        headlines=headlines(evaluation.forced),
        compared=_compared(evaluation),
        classes=_class_rows(evaluation.forced),
        figures=figures(films, evaluation, band),
        wrong=[_Thumbnail(film.record, film.label, _pictures(film)) for film in wrong],
        wrong_total=evaluation.forced.confusion.fp + evaluation.forced.confusion.fn,
        certain=evaluation.forced.looks_too_certain,
        source=source,
        remark=remark,
        band=band,
        chosen_on=chosen_on,
        percent=percent,
    )


def headlines(metrics: Metrics) -> list[Headline]:
    """The four numbers on top of the page, with what they mean."""
    cells = metrics.confusion
    negative, positive = metrics.labels
    meanings = {
        "Sensitivity": f"{cells.tp:,} of {cells.fn + cells.tp:,} films {positive} were found",
        "Specificity": f"{cells.tn:,} of {cells.tn + cells.fp:,} films {negative} were called so",
        "Accuracy": f"{cells.tn + cells.tp:,} of {metrics.n:,} films were called right",
        "AUC": f"how often a film {positive} outscores a film {negative}",
    }
    return [
        Headline(name, *_value_and_interval(metrics, name.lower()), meaning)
        for name, meaning in meanings.items()
    ]


def percent(share: float | None) -> str:
    """A share as percent with one digit that never rounds to a false certainty."""
    if share is None:
        return "not defined"
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.1%}"


def _gap(film: Scored, labels: Labels) -> float | None:
    """How far a wrongly called film lies from its truth; `None` for one called right."""
    probability = film.record.probability
    if probability is None:
        return None
    called, truth = probability >= film.record.threshold, bool(labels.index(film.label))
    return None if called == truth else abs(probability - truth)


def _patients(films: Sample) -> int:
    return len(np.unique(films.groups))


def _compared(evaluation: Evaluation) -> list[tuple[str, tuple[str, str], tuple[str, str]]]:
    """Rows of the table of forced choice beside answered films: name, then value and interval."""
    names = {
        "sensitivity": "Sensitivity",
        "specificity": "Specificity",
        "accuracy": "Accuracy",
        "auc": "AUC",
        "brier": "Brier score",
        "ece": "Calibration error (ECE)",
    }
    return [
        (
            title,
            _value_and_interval(evaluation.forced, name),
            _value_and_interval(evaluation.answered, name),
        )
        for name, title in names.items()
    ]


def _class_rows(metrics: Metrics) -> list[tuple[str, list[tuple[str, str]], int]]:
    """Rows of the table per class: name, precision, recall and F1 with intervals, films."""
    cells = metrics.confusion
    films = (cells.tn + cells.fp, cells.fn + cells.tp, metrics.n, metrics.n)
    rows = []
    for name, count in zip((*metrics.labels, *MEANS), films, strict=True):
        rates = []
        for rate in ("precision", "recall", "f1"):
            value: float | None = getattr(metrics, rate)[name]
            interval = metrics.confidence_intervals[f"{rate}.{name}"]
            rates.append((_number(value), _bounds(interval)))
        rows.append((name, rates, count))
    return rows


def _value_and_interval(metrics: Metrics, name: str) -> tuple[str, str]:
    value: float | None = getattr(metrics, name)
    interval = metrics.confidence_intervals[name]
    if name in ("sensitivity", "specificity", "accuracy"):
        return percent(value), _bounds(interval, 100, 1, "%")
    return _number(value), _bounds(interval)


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _bounds(interval: Interval | None, factor: float = 1, digits: int = 3, unit: str = "") -> str:
    if interval is None:
        return "no interval"
    low, high = (f"{bound * factor:.{digits}f}" for bound in interval)
    return f"{low}–{high}{unit}"


def _pictures(film: WrongFilm) -> list[tuple[str, Markup]]:
    named = (("film", film.picture_jpeg), ("heat map", film.overlay_jpeg))
    return [(name, data_uri("image/jpeg", jpeg)) for name, jpeg in named if jpeg is not None]
