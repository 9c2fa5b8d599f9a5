"""A threshold chosen from labelled films: by patient, by hand, and never claimed too well."""

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from models.cards import DecisionConstants
from worker.errors import NoOperatingPoint, UsageError
from worker.evaluate.operating_point import choose, exact_interval, moved_band
from worker.records import Decision

CARD = DecisionConstants(threshold=0.5, indeterminate=(0.4, 0.6), chosen_on="-")


def log_odds(probability):
    return log(probability / (1 - probability))


@pytest.fixture
def film(scored):
    """Make one film whose content is its number."""
    count = iter(range(100_000))

    def make(label, probability, patient, **fields):
        number = next(count)
        fields = {"sha256": f"{number:064x}", "file": f"{number}.jpeg"} | fields
        return scored(label, probability, patient, **fields)

    return make


@pytest.fixture
def clinic(film):
    """40 patients with the finding, scored 0.21 to 0.60, and 40 without, scored 0.01 to 0.40."""
    sick = [film("PNEUMONIA", (21 + n) / 100, f"sick{n}") for n in range(40)]
    well = [film("NORMAL", (1 + n) / 100, f"well{n}") for n in range(40)]
    return sick + well


@pytest.fixture
def point():
    def chosen(films, target=0.95, card=CARD):
        return choose(films, card, target, resamples=200)

    return chosen


# The threshold


@pytest.mark.parametrize(
    ("target", "threshold", "found"),
    [
        (0.95, 0.23, 38),
        (0.9, 0.25, 36),
        (1.0, 0.21, 40),
        (0.5, 0.41, 20),
        (0.96, 0.22, 39),
        (1e-12, 0.6, 1),
    ],
)
def test_it_is_the_highest_that_finds_the_share_of_patients(
    clinic, point, target, threshold, found
):
    chosen = point(clinic, target)
    assert chosen.threshold == threshold
    assert (chosen.measured.sensitivity.hits, chosen.measured.sensitivity.of) == (found, 40)


def test_normal_patients_below_it_are_spared(clinic, point):
    spared = point(clinic).measured.specificity  # 0.01 to 0.22 lie below 0.23
    assert (spared.hits, spared.of) == (22, 40)


def test_normal_films_do_not_move_the_threshold(clinic, film, point):
    """Else the interval of the specificity would not be honest."""
    more = [film("NORMAL", 0.99, f"more{n}") for n in range(50)]
    assert point(clinic + more).threshold == point(clinic).threshold


def test_a_patient_with_pneumonia_counts_by_the_film_that_is_missed(clinic, film, point):
    """By any film, ten films of one child hid what the next child with one film meets."""
    missed = [film("PNEUMONIA", 0.05, f"sick{n}") for n in range(30, 33)]
    assert point(clinic).threshold == 0.23
    chosen = point(clinic + missed)
    assert chosen.threshold == 0.05
    assert chosen.measured.sensitivity.of == 40


def test_more_films_of_one_patient_do_not_make_more_patients(clinic, film, point):
    again = [film("PNEUMONIA", 0.9, "sick39") for _ in range(100)]
    chosen = point(clinic + again)
    assert chosen.threshold == 0.23
    assert chosen.measured.sensitivity == point(clinic).measured.sensitivity
    assert not chosen.every_film_a_patient


def test_a_normal_patient_counts_by_the_film_that_alarms(clinic, film, point):
    alarms = [film("NORMAL", 0.9, f"well{n}") for n in range(5)]
    assert point(clinic + alarms).measured.specificity.hits == 22 - 5


def test_a_patient_with_films_of_both_labels_counts_on_both_sides(clinic, film, point):
    recovered = [film("NORMAL", 0.01, f"sick{n}") for n in range(10)]
    measured = point(clinic + recovered).measured
    assert (measured.sensitivity.of, measured.specificity.of) == (40, 50)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.01, 1), min_size=30, max_size=60), st.floats(0.05, 1))
def test_whatever_the_scores_it_reaches_its_target_and_lies_on_a_step(scores, target):
    found = choose(hypothetical(scores), CARD, target, resamples=10)
    rate = found.measured.sensitivity
    assert rate.value >= target - 1e-9
    assert found.threshold == round(found.threshold, 3)
    low, high = found.indeterminate
    assert low <= found.threshold <= high


def hypothetical(scores):
    """Patients with pneumonia with these scores, and 30 without."""
    from worker.evaluate.sample import Scored
    from worker.records import Record

    labelled = [("PNEUMONIA", score) for score in scores] + [("NORMAL", 0.2)] * 30
    return [
        Scored(
            Record(
                f"{n}.jpeg", f"{n:064x}", Decision.NORMAL, score, 0.5, 0, 0.5, None, "", "m", "cd"
            ),
            label,
            f"patient{n}",
        )
        for n, (label, score) in enumerate(labelled)
    ]


# Which films count


def test_refused_films_are_in_no_rate(clinic, film, point):
    refused = [film("PNEUMONIA", 0.02, f"adult{n}", decision=Decision.REFUSED) for n in range(20)]
    chosen = point(clinic + refused)
    assert chosen.threshold == 0.23
    assert (chosen.measured.films, chosen.measured.refused) == (80, 20)


def test_films_the_card_left_to_a_human_count(clinic, point):
    assert any(film.record.decision is Decision.INDETERMINATE for film in clinic)
    assert point(clinic).measured.films == len(clinic)


def test_unreadable_films_are_counted_as_such(clinic, film, point):
    unreadable = film("PNEUMONIA", None, "sick0", reason="truncated-file")
    assert point([*clinic, unreadable]).measured.unreadable == 1


def test_a_copy_counts_once(clinic, film, point):
    copy = film("NORMAL", 0.9, "somebody", sha256=clinic[-1].record.sha256)
    chosen = point([*clinic, copy])
    assert (chosen.measured.films, chosen.measured.copies) == (80, 1)


def test_one_picture_with_two_labels_is_named(clinic, film, point):
    copy = film("PNEUMONIA", 0.9, "somebody", sha256=clinic[-1].record.sha256)
    with pytest.raises(UsageError, match=r"79\.jpeg and 80\.jpeg are the same picture"):
        point([*clinic, copy])


def test_the_digest_names_the_films_whatever_their_order_and_names(clinic, film, point):
    def digest(films):
        return point(films).measured.films_sha256

    assert digest(clinic) == digest(clinic[::-1])
    assert digest(clinic) != digest([*clinic, film("NORMAL", 0.1, "one more")])


# What cannot be supported


@pytest.mark.parametrize("label", ["PNEUMONIA", "NORMAL"])
def test_fewer_than_30_patients_of_a_class_are_too_few(clinic, point, label):
    some = [film for film in clinic if film.label != label]
    some += [film for film in clinic if film.label == label][:29]
    with pytest.raises(NoOperatingPoint, match=r"found .*29.*needs 30 of each"):
        point(some)


def test_many_films_of_few_patients_are_too_few(film, point):
    films = [film("PNEUMONIA", 0.5, f"sick{n % 29}") for n in range(500)]
    films += [film("NORMAL", 0.5, f"well{n}") for n in range(30)]
    with pytest.raises(NoOperatingPoint, match="found 29 patients with the finding and 30 without"):
        point(films)


def test_a_target_that_would_call_every_film_is_refused(clinic, film, point):
    unseen = [film("PNEUMONIA", 0.0004, f"unseen{n}") for n in range(10)]
    with pytest.raises(NoOperatingPoint, match="every film be called"):
        point(clinic + unseen)


# The intervals


@pytest.mark.parametrize(("hits", "of"), [(30, 30), (0, 30), (38, 40), (5, 10)])
def test_beyond_its_ends_what_was_seen_has_a_chance_of_one_in_forty(hits, of):
    """The definition of Clopper and Pearson."""
    low, high = exact_interval(hits, of)
    if hits:
        assert binom.sf(hits - 1, of, low) == pytest.approx(0.025)
    if hits < of:
        assert binom.cdf(hits, of, high) == pytest.approx(0.025)
    assert (low == 0, high == 1) == (hits == 0, hits == of)


def test_the_interval_counts_patients_not_films(clinic, film, point):
    again = [film("PNEUMONIA", 0.9, f"sick{n}") for n in range(40) for _ in range(5)]
    rate = point(clinic + again).measured.sensitivity
    assert (rate.low, rate.high) == exact_interval(38, 40)


def test_the_lower_end_holds_although_the_threshold_came_from_the_same_patients():
    """Drawn 2000 times, the true sensitivity lies below the lower end in 2.5% of the draws."""
    rng = np.random.default_rng(3)
    low, _ = exact_interval(38, 40)
    scores = np.sort(rng.random((2000, 40)), axis=1)
    true_sensitivity = 1 - scores[:, 2]  # uniform scores: the share above the 38th highest
    assert 0.018 < np.mean(true_sensitivity < low) < 0.033


def test_where_no_error_was_seen_the_interval_of_films_still_leaves_room(film, point):
    films = [film("PNEUMONIA", 0.9, f"sick{n}") for n in range(30)]
    films += [film("NORMAL", 0.01, f"well{n}") for n in range(30)]
    risk = point(films).measured.risk  # the films with pneumonia lie in the band
    assert (risk.hits, risk.of, risk.low) == (0, 30, 0)
    assert risk.high == exact_interval(0, 30)[1]


# Band, coverage and risk


def test_the_band_moves_along_as_wide_in_log_odds_as_it_was():
    low, high = moved_band(CARD, 0.23)
    assert log_odds(0.23) - log_odds(low) == pytest.approx(log_odds(0.5) - log_odds(0.4), abs=1e-4)
    assert log_odds(high) - log_odds(0.23) == pytest.approx(log_odds(0.6) - log_odds(0.5), abs=1e-4)


def test_a_band_that_abstains_from_nothing_or_all_stays_so():
    nothing = CARD.model_copy(update={"indeterminate": (0.5, 0.5)})
    everything = CARD.model_copy(update={"indeterminate": (0.0, 1.0)})
    assert moved_band(nothing, 0.2) == (0.2, 0.2)
    assert moved_band(everything, 0.2) == (0.0, 1.0)


def test_coverage_and_risk_are_those_of_the_moved_band(clinic, point):
    """Band 0.166 to 0.309: 10 with pneumonia and 14 without lie inside; of the rest 10 are wrong.

    Inside: 0.21 to 0.30 and 0.17 to 0.30. Wrong: normal films from 0.31 to 0.40.
    """
    chosen = point(clinic)
    assert chosen.indeterminate == pytest.approx((0.166065, 0.309417), abs=1e-6)
    coverage, risk = chosen.measured.coverage, chosen.measured.risk
    assert (coverage.hits, coverage.of) == (80 - 24, 80)
    assert (risk.hits, risk.of) == (10, 56)
    assert coverage.low < coverage.value < coverage.high
    assert risk.low < risk.value < risk.high
