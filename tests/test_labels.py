"""A model's own two words: what they may be, what they mean, and where films carry them."""

import pytest
from pydantic import ValidationError

from worker.errors import UsageError
from worker.labels import class_folders, labels_csv
from worker.records import role_of

TB = ("CLEAR", "TUBERCULOSIS")


@pytest.mark.parametrize("word", ["TB", "COVID-19", "PLEURAL_EFFUSION", "A" * 32])
def test_a_label_is_a_word_in_capitals(new_card, word):
    assert new_card(labels=("CLEAR", word)).labels[1] == word


@pytest.mark.parametrize(
    "word", ["", "tb", "Tb", "2ND", "A" * 33, "TWO WORDS", "A/B", "..", "TB\n", "=TB", "SÄURE"]
)
def test_a_label_that_is_unsafe_as_a_name_is_refused(new_card, word):
    with pytest.raises(ValidationError, match=r"labels\.1"):
        new_card(labels=("CLEAR", word))


@pytest.mark.parametrize("word", ["INDETERMINATE", "REFUSED", "FAILED", "UNREADABLE", "CLEAR"])
def test_a_label_that_says_something_else_already_is_refused(new_card, word):
    with pytest.raises(ValidationError, match="labels"):
        new_card(labels=("CLEAR", word))


@pytest.mark.parametrize("labels", [("CLEAR",), ("A", "B", "C")])
def test_a_card_names_two_classes(new_card, labels):
    with pytest.raises(ValidationError, match="labels"):
        new_card(labels=labels)


def test_the_second_label_is_the_positive_one_whatever_its_name():
    assert [role_of(word, TB) for word in TB] == ["negative", "positive"]
    assert role_of("NORMAL", ("PNEUMONIA", "NORMAL")) == "positive"
    assert role_of("REFUSED", TB) == "refused"
    with pytest.raises(ValueError, match="not in tuple"):
        role_of("PNEUMONIA", TB)


def test_class_folders_are_named_as_the_labels(tmp_path):
    for label in TB:
        (tmp_path / label).mkdir()
        (tmp_path / label / "film.png").touch()
    assert [film.label for film in class_folders(tmp_path, TB)] == list(TB)


def test_other_class_folders_are_an_error_that_names_both(tmp_path):
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "PNEUMONIA").mkdir()
    with pytest.raises(UsageError, match=r"CLEAR, TUBERCULOSIS.*found NORMAL, PNEUMONIA"):
        list(class_folders(tmp_path, TB))


def test_a_file_in_place_of_class_folders_is_an_error(tmp_path):
    (tmp_path / "film.png").touch()
    with pytest.raises(UsageError, match="found none"):
        list(class_folders(tmp_path / "film.png"))


def test_other_labels_in_a_table_are_an_error_that_names_line_and_both(tmp_path):
    table = tmp_path / "truth.csv"
    table.write_text("file,label\na.png,TUBERCULOSIS\nb.png,NORMAL\n")
    with pytest.raises(UsageError, match=r"csv:3: label 'NORMAL' .*: CLEAR, TUBERCULOSIS"):
        list(labels_csv(table, tmp_path, TB))
