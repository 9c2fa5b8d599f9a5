"""Results as text for a terminal and as CSV for a spreadsheet."""

from collections.abc import Sequence

from worker.csvtext import csv_line
from worker.evaluate.bootstrap import Interval
from worker.evaluate.metrics import Evaluation, Metrics
from worker.evaluate.sample import Scored
from worker.records import RECORD_FIELDS
from worker.report.text import printable

PREDICTION_FIELDS = (*RECORD_FIELDS, "label")


_NO_ERROR_SEEN = (
    "An interval of one value means that no error was seen: among n patients of a class an error",
    "rate of up to 3/n is still possible (rule of three).",
)


def summary(evaluation: Evaluation) -> str:
    """What the terminal shows: forced choice with its table, then the answered films in a line."""
    forced, answered = evaluation.forced, evaluation.answered
    lines = [
        f"Forced choice at threshold {forced.threshold:g} over all {forced.n} decoded films "
        "(95% intervals by patient)",
        "",
        *(_with_interval(forced, name) for name in ("auc", "accuracy", "sensitivity")),
        _with_interval(forced, "specificity"),
        *(_NO_ERROR_SEEN if forced.looks_too_certain else ()),
        "",
        class_table(forced),
        "",
        confusion_table(forced),
        "",
        f"Answered: {answered.n} of {forced.n} ({evaluation.coverage:.1%}), "
        f"accuracy {_number(answered.accuracy)}, sensitivity {_number(answered.sensitivity)}, "
        f"specificity {_number(answered.specificity)}",
        f"Indeterminate {evaluation.indeterminate}, refused {evaluation.refused}, "
        f"unreadable {evaluation.unreadable}",
        f"Model {printable(evaluation.model)}, weights {evaluation.weights_sha256}",
    ]
    return "\n".join(lines) + "\n"


def class_table(metrics: Metrics) -> str:
    """Precision, recall and F1 of each class and their means; `-` where not defined."""
    cells = metrics.confusion
    negative, positive = metrics.labels
    width = _first_column(metrics)
    films = {
        negative: cells.tn + cells.fp,
        positive: cells.fn + cells.tp,
        "macro": metrics.n,
        "weighted": metrics.n,
    }
    rows = [f"{'':<{width}}{'precision':>10}{'recall':>10}{'F1':>10}{'films':>8}"]
    for name, count in films.items():
        values = (rate[name] for rate in (metrics.precision, metrics.recall, metrics.f1))
        numbers = "".join(f"{_number(value):>10}" for value in values)
        rows.append(f"{name:<{width}}{numbers}{count:>8}")
    return "\n".join(rows)


def confusion_table(metrics: Metrics) -> str:
    """Films by truth (rows) and call (columns)."""
    cells, width = metrics.confusion, _first_column(metrics)
    negative, positive = metrics.labels
    rows = (
        ("truth", f"called {negative}", f"called {positive}"),
        (negative, cells.tn, cells.fp),
        (positive, cells.fn, cells.tp),
    )
    left, right = (len(word) + 2 for word in rows[0][1:])
    return "\n".join(f"{name:<{width}}{a:>{left}}{b:>{right}}" for name, a, b in rows)


def predictions_csv(scored: Sequence[Scored]) -> str:
    """One row for each film, in the given order: the record's fields and `label`.

    See `csv_line` for what is quoted and escaped.
    """
    lines = [csv_line(PREDICTION_FIELDS)]
    for film in scored:
        values = (getattr(film.record, name) for name in RECORD_FIELDS)
        lines.append(csv_line((*values, film.label)))
    return "".join(lines)


def _with_interval(metrics: Metrics, name: str) -> str:
    value: float | None = getattr(metrics, name)
    label = "AUC" if name == "auc" else name
    return f"{label:<12}{_number(value):>7}{_bounds(metrics.confidence_intervals[name])}"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f"  [{interval[0]:.3f}, {interval[1]:.3f}]"


def _first_column(metrics: Metrics) -> int:
    return max(10, *(len(label) + 1 for label in metrics.labels))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
