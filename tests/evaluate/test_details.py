"""What the page draws stands in the JSON too: the same points, bins and films."""

import json

import pytest
from sklearn.metrics import auc

from worker.evaluate.details import details
from worker.evaluate.metrics import evaluate
from worker.evaluate.page import most_wrong

THRESHOLD = 0.5


@pytest.fixture
def found(many):
    return details(many, THRESHOLD, 12)


def test_the_roc_curve_holds_the_auc(found, many):
    roc = found["curves"]["roc"]
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    area = evaluate(many, resamples=2).forced.auc
    assert auc(roc["fpr"], roc["tpr"]) == pytest.approx(area, abs=0.002)


def test_precision_and_recall_go_by_rising_recall(found):
    curve = found["curves"]["precision_recall"]
    assert curve["recall"] == sorted(curve["recall"])
    assert len(curve["precision"]) == len(curve["recall"])


def test_answering_everything_errs_as_forced_choice_does(found, many):
    curve = found["curves"]["risk_coverage"]
    assert curve["coverage"][-1] == 1
    accuracy = evaluate(many, resamples=2).forced.accuracy
    assert curve["risk"][-1] == pytest.approx(1 - accuracy)


def test_bins_hold_every_film_and_give_the_calibration_error(found, many):
    bins = found["curves"]["reliability"]
    metrics = evaluate(many, resamples=2).forced
    assert len(bins) == 15
    assert sum(one["count"] for one in bins) == metrics.n
    gaps = [
        one["count"] * abs(one["share_positive"] - one["mean_probability"])
        for one in bins
        if one["count"]
    ]
    assert sum(gaps) / metrics.n == pytest.approx(metrics.ece)


def test_a_share_lies_in_its_interval_and_a_mean_in_its_bin(found):
    for one in found["curves"]["reliability"]:
        if one["count"]:
            low, high = one["wilson_interval"]
            assert low <= one["share_positive"] <= high
            assert one["low"] <= one["mean_probability"] <= one["high"]


def test_an_empty_bin_says_nothing_but_that(scored):
    first, *_, last = details([scored("NORMAL", 0.01)], THRESHOLD, 12)["curves"]["reliability"]
    assert first["count"] == 1
    assert (last["count"], last["mean_probability"], last["share_positive"]) == (0, None, None)
    assert last["wilson_interval"] is None


def test_one_class_alone_has_no_curve_that_needs_both(scored):
    curves = details([scored("NORMAL", 0.1), scored("NORMAL", 0.9)], THRESHOLD, 12)["curves"]
    assert (curves["roc"], curves["precision_recall"]) == (None, None)
    assert curves["risk_coverage"]["risk"]


def test_the_most_wrong_are_those_of_the_page(found, many):
    films = most_wrong(many, 12)
    assert [one["file"] for one in found["most_wrong"]] == [film.record.file for film in films]
    assert found["most_wrong"][0] == {
        "file": films[0].record.file,
        "label": films[0].label,
        "probability": films[0].record.probability,
        "decision": films[0].record.decision,
    }


def test_all_of_it_is_json_without_nan(found):
    json.dumps(found, allow_nan=False)
