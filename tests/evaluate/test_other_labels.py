"""An evaluation of a model that looks for something else is in that model's words."""

import re
from dataclasses import replace

import pytest

from worker.evaluate.figures import figures
from worker.evaluate.metrics import evaluate
from worker.evaluate.page import evaluation_page, most_wrong
from worker.evaluate.sample import decoded, sample
from worker.evaluate.tables import summary

TB = ("CLEAR", "TUBERCULOSIS")
OURS = dict(zip(("NORMAL", "PNEUMONIA"), TB, strict=True))


@pytest.fixture
def tb_films(many):
    """The same films, labelled and answered in other words."""
    return [
        replace(
            film,
            label=OURS[film.label],
            record=replace(film.record, decision=OURS.get(film.record.decision, "REFUSED")),
        )
        for film in many
    ]


def test_json_keys_are_the_labels_and_the_numbers_stay(tb_films, many):
    found = evaluate(tb_films, resamples=50, labels=TB).to_json()
    usual = evaluate(many, resamples=50).to_json()
    for rate in ("precision", "recall", "f1"):
        assert list(found[rate]) == [*TB, "macro", "weighted"]
        assert list(found[rate].values()) == list(usual[rate].values())
    assert found["confidence_intervals"]["f1.CLEAR"] == usual["confidence_intervals"]["f1.NORMAL"]
    assert not re.search("(?i:pneumonia)|NORMAL", str(found))


def test_page_and_summary_say_the_words_of_the_model(tb_films):
    result = evaluate(tb_films, resamples=20, labels=TB)
    html = evaluation_page(result, tb_films, [], source="films", band=(0.35, 0.65), chosen_on="-")
    assert "How well the model tells TUBERCULOSIS from CLEAR" in html
    assert "called TUBERCULOSIS" in summary(result)
    for text in (html, summary(result)):
        assert not re.search("(?i:pneumonia)|NORMAL", text)


def test_the_most_wrong_films_are_found_by_the_models_own_labels(tb_films, many):
    found = [film.record.file for film in most_wrong(tb_films, 5, TB)]
    assert found == [film.record.file for film in most_wrong(many, 5)]
    with pytest.raises(ValueError, match="not in tuple"):
        most_wrong(tb_films, 5)


def test_films_labelled_in_other_words_are_not_measured(tb_films):
    with pytest.raises(ValueError, match="none of"):
        evaluate(tb_films, resamples=10)


def test_long_labels_are_cut_in_figures_only(scored):
    long = ("WITHOUT_ANY_PLEURAL_EFFUSION", "PLEURAL_EFFUSION")
    films = [scored(long[0], 0.1, "a"), scored(long[1], 0.9, "b")]
    result = evaluate(films, resamples=20, labels=long)
    drawn = figures(sample(decoded(films), 0.5, long), result, None)
    assert "called PLEURAL_EFF…" in drawn[0].svg
    assert "labelled PLEURAL_EFFUSION" in drawn[0].svg
    lines = summary(result).splitlines()
    assert any(line.startswith("WITHOUT_ANY_PLEURAL_EFFUSION ") for line in lines)
