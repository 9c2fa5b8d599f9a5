"""No cell of a CSV is a formula, and programs read back what was written."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.csvtext import csv_line

STARTS = [
    "=",
    "+",
    "-",
    "@",
    "\t=",
    "\r=",
    "\n=",
    " =",
    "\u00a0=",
    '"=',
    "'=",
    "\ufeff=",
    "＝",
    "\x01=",
]


def cell(line):
    [[text, *_]] = csv.reader(io.StringIO(line, newline=""))
    return text


@pytest.mark.parametrize("start", STARTS)
def test_no_cell_is_a_formula_whatever_stands_before_it(start):
    assert cell(csv_line([f"{start}HYPERLINK(1)"])).startswith("'")


@pytest.mark.parametrize(
    "text", ["film.jpg", "a=b", "/inbox/-1.jpg", "", "50 - 60", "Müller, 肺炎"]
)
def test_ordinary_text_stays_as_it_is(text):
    assert cell(csv_line([text])) == text


def test_numbers_stay_numbers():
    assert csv_line([-0.5, None, 3]) == "-0.5,,3\r\n"


@given(st.text())
def test_who_takes_one_quote_off_gets_back_what_was_written(text):
    """A name that began with a quote of its own could not be told from one that was marked."""
    without_nul = text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()
    assert cell(csv_line([text, "end"])).removeprefix("'") == without_nul


def test_names_that_are_no_text_are_written_as_escapes():
    assert csv_line(["a\udcff\0"]) == "a\\udcff\\x00\r\n"
