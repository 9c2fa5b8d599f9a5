"""Text for the terminal and CSV that no spreadsheet runs."""

import csv
import io

import pytest

from worker.evaluate.metrics import evaluate
from worker.evaluate.tables import class_table, predictions_csv, summary
from worker.records import RECORD_FIELDS


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_columns_are_the_record_and_the_label(scored):
    table = predictions_csv([scored("NORMAL", 0.25, file="a.jpeg")])
    assert table.splitlines()[0] == ",".join((*RECORD_FIELDS, "label"))
    (row,) = rows(table)
    assert row["file"] == "a.jpeg"
    assert row["decision"] == "NORMAL"
    assert float(row["probability"]) == 0.25
    assert row["reason"] == ""
    assert row["label"] == "NORMAL"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_text_that_a_spreadsheet_would_run_is_quoted(scored, start):
    (row,) = rows(predictions_csv([scored("NORMAL", 0.25, file=f"{start}1+cmd|x")]))
    assert row["file"] == f"'{start}1+cmd|x"


def test_numbers_are_never_quoted(scored):
    (row,) = rows(predictions_csv([scored("NORMAL", 1e-07, guard_score=-0.0)]))
    assert float(row["probability"]) == 1e-07
    assert float(row["guard_score"]) == 0


@pytest.mark.parametrize("name", ["two\nlines", "old\rmac", 'quo"te', "com,ma", "nar\u0301row é"])
def test_hostile_file_names_come_back_as_they_were(scored, name):
    (row,) = rows(predictions_csv([scored("NORMAL", 0.25, file=name)]))
    assert row["file"] == name


def test_bytes_that_are_no_text_become_escapes(scored):
    table = predictions_csv([scored("NORMAL", 0.25, file="a\udcff.jpeg")])
    assert rows(table.encode("utf-8").decode("utf-8"))[0]["file"] == "a\\udcff.jpeg"


def test_unreadable_films_stay_in_the_table_without_a_score(scored):
    table = predictions_csv([scored("NORMAL", None, reason="truncated-file")])
    (row,) = rows(table)
    assert (row["probability"], row["reason"]) == ("", "truncated-file")


def test_class_table_holds_every_class_and_mean(many):
    lines = class_table(evaluate(many, resamples=20).forced).splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["precision", "NORMAL", "PNEUMONIA", "macro", "weighted"]
    assert len({len(line) for line in lines}) == 1


def test_undefined_values_show_as_a_dash(scored):
    table = class_table(evaluate([scored("NORMAL", 0.1)], resamples=20).forced)
    assert table.splitlines()[2].split() == ["PNEUMONIA", "-", "-", "-", "0"]


def test_summary_names_model_counts_and_intervals(many):
    text = summary(evaluate(many, resamples=20))
    assert "mobilenetv2" in text
    assert "unreadable 2" in text
    assert "sensitivity" in text
    assert "[0." in text
    assert "called PNEUMONIA" in text
