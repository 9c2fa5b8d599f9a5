"""The intervals: patients are drawn, every metric is the one of the point estimate."""

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from worker.evaluate import bootstrap
from worker.evaluate.calibration import expected_calibration_error
from worker.evaluate.sample import Sample, decoded, sample


def made(truth, scores, groups):
    scores = np.asarray(scores, dtype=float)
    return Sample(np.asarray(truth, bool), scores >= 0.5, scores, np.asarray(groups), 0.5)


def random_sample(films, patients, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random(films) < 0.6
    scores = np.clip(rng.normal(0.35 + 0.3 * truth, 0.25), 0, 1).round(2)  # with ties
    return made(truth, scores, np.arange(films) % patients)


def width(interval):
    return interval[1] - interval[0]


def test_weighing_equals_scikit_learn_on_repeated_films():
    films = random_sample(80, 40)
    weights = np.random.default_rng(1).integers(0, 3, size=(6, 40))
    drawn = bootstrap.weigh(films, weights.astype(float))
    for row, times in enumerate(weights):
        again = np.repeat(np.arange(80), times[films.groups])
        truth, scores, called = films.truth[again], films.scores[again], films.called[again]
        got = {name: values[row] for name, values in drawn.items()}
        assert got["auc"] == pytest.approx(sk.roc_auc_score(truth, scores))
        assert got["accuracy"] == pytest.approx(sk.accuracy_score(truth, called))
        assert got["brier"] == pytest.approx(sk.brier_score_loss(truth, scores))
        assert got["ece"] == pytest.approx(expected_calibration_error(truth, scores))
        for rate, theirs in (("precision", sk.precision_score), ("f1", sk.f1_score)):
            assert got[f"{rate}.PNEUMONIA"] == pytest.approx(theirs(truth, called))
            assert got[f"{rate}.NORMAL"] == pytest.approx(theirs(truth, called, pos_label=False))
            for mean in ("macro", "weighted"):
                expected = theirs(truth, called, average=mean)
                assert got[f"{rate}.{mean}"] == pytest.approx(expected)


def test_patients_are_drawn_not_films():
    """Ten patients with twenty films each, called all right or all wrong."""
    patients = np.repeat(np.arange(10), 20)
    truth = patients % 2 == 0
    right = ~np.isin(patients, (0, 1, 2))
    scores = np.where(truth == right, 0.9, 0.1)
    by_patient = bootstrap.intervals(bootstrap.resample(made(truth, scores, patients), 0, 1000))
    alone = made(truth, scores, np.arange(200))
    by_film = bootstrap.intervals(bootstrap.resample(alone, 0, 1000))
    assert width(by_patient["accuracy"]) > 3 * width(by_film["accuracy"])


def test_the_interval_of_independent_films_is_the_binomial_one():
    films = random_sample(400, 400)
    accuracy = float(np.mean(films.truth == films.called))
    low, high = bootstrap.intervals(bootstrap.resample(films, 0, 2000))["accuracy"]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 400)
    assert low == pytest.approx(accuracy - half, abs=0.008)
    assert high == pytest.approx(accuracy + half, abs=0.008)


def test_the_seed_alone_decides():
    films = random_sample(50, 25)
    one, same, other = (bootstrap.resample(films, seed, 20)["auc"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_draws_without_one_class_are_left_out():
    films = made([True] + [False] * 3, [0.9, 0.1, 0.2, 0.7], range(4))
    draws = bootstrap.resample(films, 0, 1000)
    assert np.isnan(draws["auc"]).mean() == pytest.approx(0.75**4, abs=0.06)
    assert bootstrap.intervals(draws)["auc"] is not None


def test_a_metric_that_most_draws_cannot_define_has_no_interval():
    draws = {"auc": np.array([np.nan, np.nan, 0.5])}
    assert bootstrap.intervals(draws) == {"auc": None}


@pytest.mark.parametrize("films", [0, 1, 5])
def test_fewer_than_two_patients_give_no_interval(films):
    one = made([True] * films, [0.9] * films, np.zeros(films, dtype=np.int64))
    found = bootstrap.intervals(bootstrap.resample(one, 0, 100))
    assert set(found) == set(bootstrap.names(one.labels))
    assert set(found.values()) == {None}


def test_point_estimates_lie_within_their_intervals(many):
    films = sample(decoded(many), 0.5)
    found = bootstrap.intervals(bootstrap.resample(films, 0, 500))
    low, high = found["auc"]
    assert low < sk.roc_auc_score(films.truth, films.scores) < high


def test_five_thousand_films_take_less_than_two_seconds():
    films = random_sample(5000, 3000)
    start = time.process_time()
    bootstrap.resample(films, 0, 2000)
    assert time.process_time() - start < 2
