"""Drift: what moved is called moved, what chance does is not."""

import random
from math import ceil

import pytest
from scipy.stats import fisher_exact

from models.cards import REFERENCE_BINS, Reference
from worker.report.drift import (
    Reading,
    _fisher,
    bin_of,
    binned,
    drift,
    merged_bins,
    refused_share,
    share_beyond,
)


def spread(low, high, rest=0):
    """Counts with something at the ends of the scale and `rest` in each other bin."""
    return (low, *[rest] * (REFERENCE_BINS - 2), high)


def test_scores_fall_into_equal_bins_and_1_into_the_last():
    assert [bin_of(value) for value in (0, 0.0499, 0.05, 0.999, 1)] == [0, 0, 1, 19, 19]
    assert binned([0, 0.01, 1]) == spread(2, 1)


def test_bins_are_merged_until_each_holds_a_twentieth_of_the_reference():
    reference = spread(500, 400, rest=5)
    bins = merged_bins(reference)
    assert bins[0] == (0, 1)
    assert [end for _, end in bins] == [start for start, _ in bins[1:]] + [REFERENCE_BINS]
    assert min(sum(reference[start:end]) for start, end in bins) >= 0.05 * sum(reference)


def test_the_same_shares_have_not_moved():
    found = drift(spread(500, 300, 10), spread(1000, 600, 20))
    assert found.index == pytest.approx(0)
    assert found.reading == Reading.ALIKE


def test_the_index_is_that_of_the_definition():
    # Shares 0.5 and 0.5 against 0.8 and 0.2: 0.3 ln(0.5 / 0.2) - 0.3 ln(0.5 / 0.8).
    found = drift(spread(500, 500), spread(800, 200))
    assert found.index == pytest.approx(0.3 * 0.9163 + 0.3 * 0.4700, abs=1e-4)
    assert found.reading == Reading.FAR
    assert found.films == 1000


def test_an_empty_bin_gives_a_number():
    found = drift(spread(100, 0), spread(800, 200))
    assert 0.5 < found.index < 2


SHIPPED_GUARD = (1172, 345, 36, 11, 7, 5, 3, 2, 2, *[0] * 11)  # of both shipped cards


def guard(*, beyond, at=16, films=1583):
    """Counts like the shipped cards' guard scores, but for some films beyond its threshold."""
    inside = [count * (films - beyond) / sum(SHIPPED_GUARD) for count in SHIPPED_GUARD]
    counts = [round(count) for count in inside]
    counts[0] += films - beyond - sum(counts)
    counts[at] = beyond
    return counts


def test_bins_never_reach_across_the_guard_s_threshold():
    assert merged_bins(SHIPPED_GUARD, 0.5) == [(0, 1), (1, 10), (10, REFERENCE_BINS)]
    assert merged_bins(spread(500, 500), 0.5) == [(0, 10), (10, REFERENCE_BINS)]
    assert merged_bins(spread(500, 500), 0) == merged_bins(spread(500, 500))


def test_a_quarter_of_the_films_beyond_the_guard_s_threshold_is_far():
    counts = (1172, *[0] * 15, 411, 0, 0, 0)
    found = drift(counts, SHIPPED_GUARD, 0.5)
    assert found.index > 1
    assert found.reading == Reading.FAR
    assert share_beyond(counts, 0.5) == pytest.approx(411 / 1583)


@pytest.mark.parametrize("films", [60, 500, 1583, 50_000])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.5, 1])
@pytest.mark.parametrize("at", [10, 19])
def test_films_that_moved_beyond_the_threshold_never_read_as_alike(films, share, at):
    found = drift(guard(beyond=ceil(films * share), at=at, films=films), SHIPPED_GUARD, 0.5)
    assert found.reading in (Reading.BEYOND, Reading.APART, Reading.FAR)


def test_guard_scores_that_did_not_move_read_as_alike():
    """A bin that is empty in both is no difference, however many films either has."""
    for films in (60, 500, 1583, 50_000):
        found = drift(guard(beyond=0, films=films), SHIPPED_GUARD, 0.5)
        assert found.reading == Reading.ALIKE
        assert found.index < 0.01


def test_chance_rarely_says_that_more_lie_beyond_the_threshold():
    rng, reference = random.Random(0), (*SHIPPED_GUARD[:-1], 8)  # 0.5% beyond, as the guard's fit
    runs = [
        drift(
            binned((at + 0.5) / 20 for at in rng.choices(range(20), reference, k=n)), reference, 0.5
        )
        for n in (60, 500)
        for _ in range(200)
    ]
    assert sum(run.reading not in (Reading.ALIKE, Reading.CHANCE) for run in runs) < 40


def test_the_exact_test_is_fisher_s():
    for mine, n, others, m in ((2, 50, 0, 1583), (3, 60, 8, 1591), (0, 60, 8, 1591), (9, 9, 1, 4)):
        table = [[mine, n - mine], [others, m - others]]
        expected = fisher_exact(table, alternative="greater").pvalue
        assert _fisher(mine, n, others, m) == pytest.approx(expected, rel=1e-6)


def test_few_films_are_not_judged():
    assert drift(spread(0, 49), spread(800, 200)).reading == Reading.TOO_FEW
    assert drift(spread(0, 50), spread(800, 200)).reading == Reading.FAR
    assert drift(spread(0, 0), spread(800, 200)).reading == Reading.TOO_FEW


def test_what_chance_alone_reaches_is_not_called_drift():
    """Sixty films of a flat reference exceed 0.1 most of the time; 95% stay below `by_chance`."""
    rng, reference = random.Random(0), [100] * REFERENCE_BINS
    runs = [drift(binned(rng.random() for _ in range(60)), reference) for _ in range(400)]
    assert sum(run.index > 0.1 for run in runs) > 300
    assert sum(run.reading in (Reading.APART, Reading.FAR) for run in runs) < 40


def test_the_guard_s_refusals_are_the_films_without_a_score():
    reference = Reference(films=100, of="some", scores=spread(60, 30), guard=spread(90, 10))
    assert refused_share(reference) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong",
    [{"films": 99}, {"scores": spread(100, 1)}, {"guard": spread(50, 49)}, {"scores": (1,)}],
)
def test_a_reference_whose_counts_do_not_add_up_is_refused(wrong):
    right = {"films": 100, "of": "some", "scores": spread(60, 30), "guard": spread(90, 10)}
    with pytest.raises(ValueError, match="validation error"):
        Reference(**(right | wrong))
