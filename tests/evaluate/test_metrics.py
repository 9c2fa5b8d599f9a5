"""The numbers: against hand-made examples, scikit-learn, and INTERFACE.md."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from worker.errors import NothingRead
from worker.evaluate.calibration import bin_of, expected_calibration_error
from worker.evaluate.metrics import evaluate
from worker.evaluate.sample import decoded
from worker.records import Decision

METRICS = {
    "n",
    "auc",
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "recall",
    "f1",
    "brier",
    "ece",
    "threshold",
    "confusion",
    "confidence_intervals",
}
OTHERS = {"answered", "refused", "indeterminate", "unreadable", "model", "weights_sha256"}


@pytest.fixture
def tiny(scored):
    return [
        scored("NORMAL", 0.1, "a"),
        scored("NORMAL", 0.4, "b"),  # indeterminate
        scored("NORMAL", 0.8, "c"),
        scored("PNEUMONIA", 0.3, "d"),
        scored("PNEUMONIA", 0.5, "e"),  # at the threshold, indeterminate
        scored("PNEUMONIA", 0.9, "f"),
        scored("PNEUMONIA", 0.95, "g", decision=Decision.REFUSED),
        scored("NORMAL", None, "h"),
    ]


def arrays(films):
    kept = decoded(films)
    truth = np.array([film.label == "PNEUMONIA" for film in kept])
    return truth, np.array([film.record.probability for film in kept])


def test_json_has_exactly_the_fields_of_the_interface(many):
    result = evaluate(many, resamples=50).to_json()
    assert set(result) == METRICS | OTHERS
    assert set(result["answered"]) == METRICS | {"coverage"}
    for rate in ("precision", "recall", "f1"):
        assert set(result[rate]) == {"NORMAL", "PNEUMONIA", "macro", "weighted"}
    assert set(result["confusion"]) == {"tn", "fp", "fn", "tp"}


def test_the_interface_page_names_the_same_fields():
    page = Path(__file__).resolve().parents[3] / "shared" / "INTERFACE.md"
    if not page.is_file():
        pytest.skip("INTERFACE.md is not beside this checkout")
    section = page.read_text(encoding="utf-8").split("**`evaluate`**")[1].split("**Exit")[0]
    words = set(re.findall(r"[a-z_0-9]+", section))
    assert METRICS | OTHERS | {"coverage"} <= words


def test_forced_choice_counts_refused_and_indeterminate_films_by_hand(tiny):
    forced = evaluate(tiny, resamples=50).forced
    assert forced.n == 7
    assert vars(forced.confusion) == {"tn": 2, "fp": 1, "fn": 1, "tp": 3}
    assert forced.sensitivity == 3 / 4
    assert forced.specificity == 2 / 3
    assert forced.accuracy == 5 / 7
    assert forced.auc == pytest.approx(9 / 12)  # of 12 pairs, 0.3 and 0.5 lose to 0.4 and 0.8
    assert forced.precision["PNEUMONIA"] == 3 / 4
    assert pytest.approx(2 / 3) == forced.f1["NORMAL"]
    assert forced.precision["weighted"] == pytest.approx((3 * 2 / 3 + 4 * 3 / 4) / 7)


def test_answered_films_are_those_called_pneumonia_or_normal(tiny):
    result = evaluate(tiny, resamples=50)
    assert result.answered.n == 4
    assert vars(result.answered.confusion) == {"tn": 1, "fp": 1, "fn": 1, "tp": 1}
    assert result.coverage == 4 / 7
    assert (result.refused, result.indeterminate, result.unreadable) == (1, 2, 1)


def test_point_metrics_are_those_of_scikit_learn(many):
    result = evaluate(many, resamples=50).forced
    truth, scores = arrays(many)
    report = sk.classification_report(truth, scores >= 0.5, output_dict=True)
    assert result.auc == pytest.approx(sk.roc_auc_score(truth, scores))
    assert result.brier == pytest.approx(sk.brier_score_loss(truth, scores))
    assert result.accuracy == pytest.approx(report["accuracy"])
    names = {"NORMAL": "False", "PNEUMONIA": "True", "macro": "macro avg"}
    for name, theirs in (names | {"weighted": "weighted avg"}).items():
        assert result.precision[name] == pytest.approx(report[theirs]["precision"])
        assert result.recall[name] == pytest.approx(report[theirs]["recall"])
        assert result.f1[name] == pytest.approx(report[theirs]["f1-score"])


def test_calibration_error_by_hand():
    truth = np.array([True, False, True, True])
    scores = np.array([0.01, 0.05, 0.99, 1.0])
    # the first bin: share 0.5, mean score 0.03; the last: share 1, mean score 0.995
    assert expected_calibration_error(truth, scores) == pytest.approx(0.5 * 0.47 + 0.5 * 0.005)


def test_calibration_bins_are_closed_below_and_the_last_one_above():
    assert bin_of(np.array([0, 1 / 15, 0.9999999, 1])).tolist() == [0, 1, 14, 14]


@pytest.mark.parametrize("label", ["NORMAL", "PNEUMONIA"])
def test_one_class_gives_null_where_nothing_can_be_known(scored, label):
    films = [scored(label, p, f"p{p}") for p in (0.1, 0.2, 0.9)]
    result = evaluate(films, resamples=50).to_json()
    other = "sensitivity" if label == "NORMAL" else "specificity"
    assert result["auc"] is None
    assert result[other] is None
    assert result["recall"]["macro"] is None
    assert result["confidence_intervals"]["auc"] is None
    assert result["brier"] is not None
    json.dumps(result, allow_nan=False)


def test_a_class_never_called_has_no_precision(scored):
    films = [scored("NORMAL", 0.9, "a"), scored("PNEUMONIA", 0.9, "b")]
    precision = evaluate(films, resamples=50).forced.precision
    assert precision["NORMAL"] is None
    assert precision["macro"] is None
    assert precision["PNEUMONIA"] == 0.5


def test_no_answered_film_gives_zero_films_and_nulls(scored):
    films = [scored("NORMAL", 0.5, "a"), scored("PNEUMONIA", 0.55, "b")]
    answered = evaluate(films, resamples=50).to_json()["answered"]
    assert (answered["n"], answered["coverage"]) == (0, 0.0)
    assert answered["accuracy"] is None
    assert answered["confusion"] == {"tn": 0, "fp": 0, "fn": 0, "tp": 0}
    json.dumps(answered, allow_nan=False)


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_decoded_is_an_error(scored, count):
    with pytest.raises(NothingRead, match=f"none of the {count} "):
        evaluate([scored("NORMAL", None)] * count)


@pytest.mark.parametrize(
    ("label", "fields"),
    [("NORMAL", {"threshold": 0.4}), ("NORMAL", {"model": "other"}), ("SICK", {})],
)
def test_mixed_models_and_unknown_labels_are_refused(scored, label, fields):
    with pytest.raises(ValueError, match=r"threshold|labels"):
        evaluate([scored("NORMAL", 0.1), scored(label, 0.2, **fields)], resamples=10)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_an_impossible_probability_is_refused(scored, probability):
    with pytest.raises(ValueError, match="probability"):
        evaluate([scored("NORMAL", probability, decision=Decision.NORMAL)], resamples=10)


def test_json_holds_plain_python_numbers(many):
    def leaves(value):
        if isinstance(value, dict | list):
            inside = value.values() if isinstance(value, dict) else value
            return [leaf for item in inside for leaf in leaves(item)]
        return [value]

    result = evaluate(many, resamples=50).to_json()
    assert {type(leaf) for leaf in leaves(result)} <= {int, float, str, type(None)}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_order_of_the_films_does_not_matter(many):
    one, other = evaluate(many, resamples=200), evaluate(many[::-1], resamples=200)
    assert one.forced.confusion == other.forced.confusion
    for name, interval in one.forced.confidence_intervals.items():
        assert other.forced.confidence_intervals[name] == pytest.approx(interval)
