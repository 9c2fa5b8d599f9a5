"""How far scores have moved from a model's reference. Pure: counts in, numbers out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.cards import REFERENCE_BINS, Reference

FEWEST_FILMS = 50  # of a run, for anything to be said
_SMALLEST_SHARE = 0.05  # of the reference, in a bin
_SMALL, _LARGE = 0.1, 0.25
_ONE_SIDED, _Z = 0.05, 1.645  # one-sided 95%


class Reading(StrEnum):
    """What an index says of scores: the usual reading, and whether chance alone would reach it."""

    TOO_FEW = "cannot be judged: too few films to tell"
    ALIKE = "lie like the reference"
    BEYOND = (
        "lie like the reference, but for more of them beyond the guard's threshold than chance "
        "explains"
    )
    CHANCE = "lie no further from the reference than so few films do by chance"
    APART = "lie somewhat apart from the reference"
    FAR = "lie far from the reference"


@dataclass(frozen=True)
class Drift:
    """How far `films` scores lie from the reference.

    `index` is the population stability index; `by_chance` is what 95% of samples of this size
    stay below where nothing moved.
    """

    films: int
    index: float
    by_chance: float
    reading: Reading

    @property
    def judged(self) -> bool:
        """Whether there were films enough."""
        return self.reading != Reading.TOO_FEW


def bin_of(value: float) -> int:
    """Which of the equal bins a score in [0, 1] falls into; 1 belongs to the last."""
    return min(int(value * REFERENCE_BINS), REFERENCE_BINS - 1)


def binned(values: Iterable[float]) -> tuple[int, ...]:
    """Count scores in [0, 1] in the bins of a card's reference."""
    counts = [0] * REFERENCE_BINS
    for value in values:
        counts[bin_of(value)] += 1
    return tuple(counts)


def drift(counts: Sequence[int], reference: Sequence[int], threshold: float | None = None) -> Drift:
    """Compare counts with those of the reference, bin by bin.

    The population stability index, sum of (a - e) ln(a / e) over the shares a and e of each bin, in
    bins that are merged until each holds 5% of the reference. Usual reading: below 0.1 nothing,
    above 0.25 much (Siddiqi, Credit Risk Scorecards, 2006, ch. 11). Where nothing moved it is
    distributed as (1/n + 1/m) chi-square with one degree of freedom less than bins (Yurdakul &
    Naranjo, Journal of Risk Model Validation 14(4), 2020): few films alone can exceed 0.1.

    With the guard's `threshold`, beyond which hardly any film of a reference lies, no bin reaches
    across it; and what the index cannot see of so few films, Fisher's exact test does.
    """
    n, m = sum(counts), sum(reference)
    if not n or not m:
        return Drift(n, 0.0, 0.0, Reading.TOO_FEW)
    bins = merged_bins(reference, threshold)
    both = [(sum(counts[start:end]), sum(reference[start:end])) for start, end in bins]
    actual, expected = zip(*(each for each in both if any(each)), strict=True)
    index = sum(map(_term, _shares(actual), _shares(expected)))
    by_chance = (1 / n + 1 / m) * _chi_square(len(actual) - 1)
    reading = _reading(n, index, by_chance)
    if threshold is not None and reading in (Reading.ALIKE, Reading.CHANCE):
        edge = bin_of(threshold)
        if _fisher(sum(counts[edge:]), n, sum(reference[edge:]), m) < _ONE_SIDED:
            reading = Reading.BEYOND
    return Drift(n, index, by_chance, reading)


def merged_bins(reference: Sequence[int], threshold: float | None = None) -> list[tuple[int, int]]:
    """Neighbouring bins [start, end) joined until each holds 5% of the reference.

    None reaches across the threshold, where there is one; on either side at least one is left.
    """
    enough = _SMALLEST_SHARE * sum(reference)
    edge = 0 if threshold is None else bin_of(threshold)
    sides = [(0, edge), (edge, len(reference))]
    return [
        each for side in sides if side[0] < side[1] for each in _merged(reference, side, enough)
    ]


def _merged(
    reference: Sequence[int], side: tuple[int, int], enough: float
) -> list[tuple[int, int]]:
    first, last = start, _ = side
    bins: list[tuple[int, int]] = []
    held = 0
    for at in range(first, last):
        held += reference[at]
        if held >= enough and held:
            bins.append((start, at + 1))
            start, held = at + 1, 0
    if not bins:
        return [side]
    bins[-1] = (bins[-1][0], last)
    return bins


def share_beyond(counts: Sequence[int], threshold: float) -> float:
    """Share of the counts in the threshold's bin and those above it; 0 of nothing."""
    return sum(counts[bin_of(threshold) :]) / (sum(counts) or 1)


def refused_share(reference: Reference) -> float:
    """Share of the reference's films that the guard refused."""
    return 1 - sum(reference.scores) / reference.films


def _term(actual: float, expected: float) -> float:
    return (actual - expected) * math.log(actual / expected)


def _shares(counts: Sequence[int]) -> list[float]:
    """Shares of the whole; an empty bin counts as half a film, so that logarithms exist.

    Half a film is what Haldane adds for the same end (Annals of Human Genetics 20(4), 1956).
    """
    filled = [count or 0.5 for count in counts]
    return [count / sum(filled) for count in filled]


def _chi_square(degrees: int) -> float:
    """Its 95% quantile, within 1% (Wilson & Hilferty, PNAS 1931); 0 without a degree of freedom."""
    if not degrees:
        return 0.0
    spread = 2 / (9 * degrees)
    return degrees * float((1 - spread + _Z * math.sqrt(spread)) ** 3)


def _fisher(mine: int, n: int, others: int, m: int) -> float:
    """Chance that of `mine + others` among n + m films as many fall to the n, or more.

    One-sided exact test of two shares (Fisher, Journal of the Royal Statistical Society 98, 1935).
    """
    of = mine + others
    most = min(of, n)
    ways = (_log_ways(n, k) + _log_ways(m, of - k) for k in range(max(mine, of - m), most + 1))
    return math.fsum(math.exp(each - _log_ways(n + m, of)) for each in ways)


def _log_ways(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _reading(n: int, index: float, by_chance: float) -> Reading:
    if n < FEWEST_FILMS:
        return Reading.TOO_FEW
    if index < _SMALL:
        return Reading.ALIKE
    if index <= by_chance:
        return Reading.CHANCE
    return Reading.APART if index <= _LARGE else Reading.FAR
