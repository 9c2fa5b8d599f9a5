"""How far scores have moved from a model's reference. Pure: counts in, numbers out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.cards import REFERENCE_BINS, Reference

FEWEST_FILMS = 50  # of a run, for anything to be said
_SMALLEST_SHARE = 0.05  # of the reference, in a bin
_SMALL, _LARGE = 0.1, 0.25
_Z = 1.645  # one-sided 95%


class Reading(StrEnum):
    """What an index says of scores: the usual reading, and whether chance alone would reach it."""

    TOO_FEW = "cannot be judged: too few films to tell"
    ALIKE = "lie like the reference"
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


def drift(counts: Sequence[int], reference: Sequence[int]) -> Drift:
    """Compare counts with those of the reference, bin by bin.

    The population stability index, sum of (a - e) ln(a / e) over the shares a and e of each bin, in
    bins that are merged until each holds 5% of the reference. Usual reading: below 0.1 nothing,
    above 0.25 much (Siddiqi, Credit Risk Scorecards, 2006, ch. 11). Where nothing moved it is
    distributed as (1/n + 1/m) chi-square with one degree of freedom less than bins (Yurdakul &
    Naranjo, Journal of Risk Model Validation 14(4), 2020): few films alone can exceed 0.1.
    """
    bins = merged_bins(reference)
    actual = [sum(counts[start:end]) for start, end in bins]
    expected = [sum(reference[start:end]) for start, end in bins]
    n, m = sum(actual), sum(expected)
    if not n or not m:
        return Drift(n, 0.0, 0.0, Reading.TOO_FEW)
    index = sum(map(_term, _shares(actual), _shares(expected)))
    by_chance = (1 / n + 1 / m) * _chi_square(len(bins) - 1)
    return Drift(n, index, by_chance, _reading(n, index, by_chance))


def merged_bins(reference: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbouring bins [start, end) joined until each holds 5% of the reference."""
    enough = _SMALLEST_SHARE * sum(reference)
    bins: list[tuple[int, int]] = []
    start, held = 0, 0
    for end, count in enumerate(reference, start=1):
        held += count
        if held >= enough and held:
            bins.append((start, end))
            start, held = end, 0
    if not bins:
        return [(0, len(reference))]
    bins[-1] = (bins[-1][0], len(reference))
    return bins


def refused_share(reference: Reference) -> float:
    """Share of the reference's films that the guard refused."""
    return 1 - sum(reference.scores) / reference.films


def _term(actual: float, expected: float) -> float:
    return (actual - expected) * math.log(actual / expected)


def _shares(counts: Sequence[int]) -> list[float]:
    """Shares of the whole; an empty bin counts as half a film, so that logarithms exist."""
    filled = [count or 0.5 for count in counts]
    return [count / sum(filled) for count in filled]


def _chi_square(degrees: int) -> float:
    """Its 95% quantile, within 1% (Wilson & Hilferty, PNAS 1931); 0 without a degree of freedom."""
    if not degrees:
        return 0.0
    spread = 2 / (9 * degrees)
    return degrees * float((1 - spread + _Z * math.sqrt(spread)) ** 3)


def _reading(n: int, index: float, by_chance: float) -> Reading:
    if n < FEWEST_FILMS:
        return Reading.TOO_FEW
    if index < _SMALL:
        return Reading.ALIKE
    if index <= by_chance:
        return Reading.CHANCE
    return Reading.APART if index <= _LARGE else Reading.FAR
