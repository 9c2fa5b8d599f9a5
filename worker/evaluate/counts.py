"""Figures that count films: calls against the truth, and scores of each class."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from worker.evaluate.metrics import Confusion
from worker.evaluate.sample import Sample
from worker.records import Labels
from worker.report import chart
from worker.report.chart import Figure, Frame, figure

_BINS = 25
_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Counts = NDArray[np.int64]


def confusion(cells: Confusion, labels: Labels) -> Figure:
    """Films by truth (rows) and call (columns), each cell as deep as its share of its row."""
    negative, positive = map(chart.short, labels)
    parts = [
        '<g font-size="14">',
        chart.text(162, 28, f"called {negative}", "middle"),
        chart.text(320, 28, f"called {positive}", "middle"),
        *_row(
            44, f"truly {negative}", (cells.tn, cells.fp), ("correct", "false alarm"), "negative"
        ),
        *_row(188, f"truly {positive}", (cells.fn, cells.tp), ("missed", "found"), "positive"),
        "</g>",
    ]
    said = (
        f"Of {cells.tn + cells.fp} films labelled {labels[0]} {cells.fp} raised a false alarm; "
        f"of {cells.fn + cells.tp} labelled {labels[1]} {cells.fn} were missed."
    )
    reading = "Every decoded film, called at the threshold whether it was answered or not."
    return figure("confusion", "Calls against the truth", said, parts, reading)


def histogram(films: Sample, band: tuple[float, float] | None) -> Figure:
    """Scores of each class, positive upwards and negative downwards from one axis."""
    edges = np.linspace(0, 1, _BINS + 1)
    up = np.histogram(films.scores[films.truth], edges)[0]
    down = np.histogram(films.scores[~films.truth], edges)[0]
    step = _step(int(up.max()), int(down.max()))
    low, high = -_steps(int(down.max()), step), _steps(int(up.max()), step)
    frame = Frame(58, 14, 348, 290, y=(low * step, high * step))
    negative, positive = films.labels
    up_says, down_says = f"▲ truly {positive}", f"▼ truly {negative}"
    parts = [
        chart.axes(frame, "score", "films", _FIFTHS, ()),
        *(_tick(frame, count) for count in range(low * step, high * step + 1, step)),
        *_band(frame, band),
        *_bars(frame, up, "positive", 1),
        *_bars(frame, down, "negative", -1),
        chart.path(frame, frame.x, (0, 0), "quiet", 1),
        chart.path(frame, (films.threshold, films.threshold), frame.y, "text", 1.6),
        chart.text_over(frame.left + 10, frame.top + 22, up_says, "start", "positive"),
        chart.text_over(frame.right - 10, frame.bottom - 12, down_says, "end", "negative"),
    ]
    return figure(
        "scores",
        "Scores of each class",
        f"Histogram of scores: {up.sum()} films {positive}, {down.sum()} films {negative}.",
        parts,
        "How far the two classes lie apart. The line is the threshold, hatching the abstention "
        "band. Upward bars left of the line are missed, downward bars right are false alarms.",
    )


def _row(
    top: float, truth: str, films: tuple[int, int], names: tuple[str, str], colour: str
) -> Iterator[str]:
    """The two cells of one truth."""
    middle = top + 68
    yield chart.text_upwards(62, middle, truth)
    for column, (count, name) in enumerate(zip(films, names, strict=True)):
        left, share = 86 + 158 * column, count / sum(films) if sum(films) else 0.0
        yield f'<g fill-opacity="{0.06 + 0.34 * share:.2f}">'
        yield chart.rectangle(left, top, 152, 138, f"var(--{colour})")
        yield "</g>"
        yield f'<g font-size="32">{chart.text(left + 76, middle, f"{count:,}", "middle")}</g>'
        said = f"{name}, {share:.1%}" if sum(films) else name
        yield chart.text(left + 76, middle + 28, said, "middle")


def _bars(frame: Frame, counts: Counts, colour: str, sign: int) -> Iterator[str]:
    """One bar for each bin; a single film is never too thin to see."""
    width, zero = frame.width / len(counts), frame.up(0)
    for index, count in enumerate(counts):
        if count:
            height = max(1.5, zero - frame.up(int(count)))
            left, top = frame.left + index * width, zero - height if sign > 0 else zero
            tip = f"{count} films scored {index / _BINS:.2f} to {(index + 1) / _BINS:.2f}"
            yield chart.rectangle(left + 0.7, top, width - 1.4, height, f"var(--{colour})", tip=tip)


def _band(frame: Frame, band: tuple[float, float] | None) -> Iterator[str]:
    """The abstention band, hatched as on the film pages."""
    if band is not None:
        yield (
            '<defs><pattern id="abstention" width="7" height="7" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect width="1.6" height="7" fill="var(--hatch)" '
            'fill-opacity="0.55"/></pattern></defs>'
        )
        left, right = frame.across(band[0]), frame.across(band[1])
        yield chart.rectangle(left, frame.top, right - left, frame.height, "url(#abstention)")


def _tick(frame: Frame, count: int) -> str:
    at = chart.text(frame.left - 7, frame.up(count) + 4.5, f"{abs(count):,}", "end", "quiet")
    return chart.path(frame, frame.x, (count, count), "line", 1) + at


def _steps(most: int, step: int) -> int:
    return max(1, -(-most // step))


def _step(up: int, down: int) -> int:
    """A round number of films of which a few hold the highest bar of either side."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if _steps(up, step) + _steps(down, step) <= 7:
                return step
        power *= 10
