"""Scores drawn: how many films got which, and how a run's shares lie against a reference."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.cards import REFERENCE_BINS
from worker.records import Labels, Role, role_of
from worker.report import chart, text
from worker.report.chart import Figure, Frame, figure
from worker.store.runs import Spread

_SCORES = (0.0, 0.25, 0.5, 0.75, 1.0)
_HEIGHT = 184
_GAP = 0.8  # between bars
_THINNEST = 1.5  # of a bar that is not empty
_SIDES = (Role.NEGATIVE, Role.INDETERMINATE, Role.POSITIVE)  # from the axis upwards


@dataclass(frozen=True)
class BinRow:
    """One bin for who reads the figure as a table: from, to, and its numbers."""

    low: float
    high: float
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """A figure, and the same as a table: names of columns, and a row a bin that is not empty."""

    figure: Figure
    columns: tuple[str, ...]
    rows: tuple[BinRow, ...]


def by_role(spread: Spread, labels: Labels) -> dict[str, tuple[int, ...]]:
    """Counts by what decisions mean, refused films left out."""
    named = {role_of(decision, labels): counts for decision, counts in spread.items()}
    return {role: counts for role, counts in named.items() if role != Role.REFUSED}


def scores(
    sides: Mapping[str, Sequence[int]],
    threshold: float,
    band: tuple[float, float],
    labels: Labels,
) -> Drawn:
    """Draw films that a model answered by score; `sides` counts them in bins, by role.

    The bars are as high as they have films, negative answers lowest; the abstention band is hatched
    and the threshold a line.
    """
    counts = {role: sides.get(role, (0,) * REFERENCE_BINS) for role in _SIDES}
    names = {
        Role.NEGATIVE: labels[0],
        Role.INDETERMINATE: "INDETERMINATE",
        Role.POSITIVE: labels[1],
    }
    sums = [sum(column) for column in zip(*counts.values(), strict=True)]
    most = max(1, *sums)
    frame = _frame(most)
    said = ", ".join(f"{sum(counts[role]):,} {names[role]}" for role in _SIDES[::-1])
    parts = [
        *_axes(frame, "films", f"{most:,}", labels),
        _band(frame, band),
        *_stacks(frame, counts, names),
        _threshold(frame, threshold),
    ]
    title = "Scores of all films that were answered"
    drawn = figure(
        "scores",
        title,
        f"{said}. Threshold {text.score(threshold)}, abstention band {text.score(band[0])} to "
        f"{text.score(band[1])}. The table below has the numbers.",
        parts,
        f"Line: threshold {text.score(threshold)}. Hatched: abstention band "
        f"{text.score(band[0])}–{text.score(band[1])}.",
        _HEIGHT,
    )
    rows = _rows(sums, [[f"{n:,}" for n in counts[role]] for role in _SIDES])
    return Drawn(drawn, tuple(names[role] for role in _SIDES), rows)


def comparison(
    name: str,
    title: str,
    run: Sequence[int],
    reference: Sequence[int],
    threshold: float,
    ends: tuple[str, str],
) -> Drawn:
    """Draw a run's shares as bars and the reference's as a dashed outline over them.

    `ends` say what 0 and 1 mean.
    """
    shares, expected = _shares(run), _shares(reference)
    most = max(*shares, *expected, 0.05)
    frame = _frame(most)
    width = frame.width / REFERENCE_BINS
    bars = [
        _bar(frame, at, width, 0, share, "quiet", f"{_range(at)}: {share:.1%} of this run")
        for at, share in enumerate(shares)
        if share
    ]
    edges = [step / REFERENCE_BINS for at in range(REFERENCE_BINS) for step in (at, at + 1)]
    outline = chart.path(
        frame, edges, [e for e in expected for _ in (0, 1)], "text", 1.6, dash="5 3"
    )
    parts = [
        *_axes(frame, "share", f"{most:.0%}", ends),
        *bars,
        outline,
        _threshold(frame, threshold),
    ]
    drawn = figure(
        name,
        title,
        "The table below has the numbers.",
        parts,
        "Filled bars: this run. Dashed outline: the reference.",
        _HEIGHT,
    )
    filled = [a + b for a, b in zip(run, reference, strict=True)]
    columns = [[f"{share:.1%}" for share in each] for each in (shares, expected)]
    return Drawn(drawn, ("this run", "reference"), _rows(filled, columns))


def _frame(most: float) -> Frame:
    return Frame(left=48, top=28, width=360, height=112, y=(0, most))


def _axes(frame: Frame, what: str, most: str, ends: tuple[str, str]) -> Iterator[str]:
    """What is counted, the most of it, and what the ends of the scale mean."""
    yield chart.axes(frame, "", what, _SCORES, (0,))
    yield chart.text(frame.left - 7, frame.top + 4.5, most, "end", "quiet")
    yield chart.text(frame.left, _HEIGHT - 8, chart.short(ends[0]), colour="quiet")
    yield chart.text(frame.right, _HEIGHT - 8, chart.short(ends[1]), "end", "quiet")


def _stacks(
    frame: Frame, counts: Mapping[Role, Sequence[int]], names: Mapping[Role, str]
) -> Iterator[str]:
    width = frame.width / REFERENCE_BINS
    for at in range(REFERENCE_BINS):
        below = 0
        for role in _SIDES:
            if count := counts[role][at]:
                tip = f"{_range(at)}: {count:,} {names[role]}"
                yield _bar(frame, at, width, below, below + count, role, tip)
                below += count


def _bar(
    frame: Frame, at: int, width: float, low: float, high: float, colour: str, tip: str
) -> str:
    top, bottom = frame.up(high), frame.up(low)
    height = max(bottom - top, _THINNEST)
    left = frame.left + at * width + _GAP / 2
    fill = f"var(--{colour})"
    return chart.rectangle(left, bottom - height, width - _GAP, height, fill, tip=tip)


def _band(frame: Frame, band: tuple[float, float]) -> str:
    left, right = map(frame.across, band)
    hatch = (
        '<defs><pattern id="score-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="1.5" height="6" fill="var(--line)"/>'
        "</pattern></defs>"
    )
    size = (left, frame.top, right - left, frame.height)
    return hatch + chart.rectangle(*size, "url(#score-hatch)", tip="abstention band")


def _threshold(frame: Frame, threshold: float) -> str:
    line = chart.path(frame, (threshold, threshold), frame.y, "text", 1.6)
    said = f"threshold {text.score(threshold)}"
    return line + chart.text_over(frame.across(threshold), frame.top - 8, said, "middle")


def _shares(counts: Sequence[int]) -> list[float]:
    whole = sum(counts)
    return [count / whole if whole else 0.0 for count in counts]


def _range(at: int) -> str:
    return f"{at / REFERENCE_BINS:.2f}–{(at + 1) / REFERENCE_BINS:.2f}"


def _rows(filled: Sequence[int], columns: Sequence[Sequence[str]]) -> tuple[BinRow, ...]:
    return tuple(
        BinRow(at / REFERENCE_BINS, (at + 1) / REFERENCE_BINS, tuple(each[at] for each in columns))
        for at, count in enumerate(filled)
        if count
    )
