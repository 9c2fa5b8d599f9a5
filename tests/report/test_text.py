"""Names are shown as they are, and what would deceive is shown as an escape."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.report.text import age, filename, folder, printable, score, sentence, utc, words


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Thorax p.-a. Müller 肺炎.png", "Thorax p.-a. Müller 肺炎.png"),
        ("a\nb\tc\x00", r"a\nb\tc\x00"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("raw\udcff", r"raw\udcff"),
        ("tag\U000e0001", r"tag\U000e0001"),
    ],
)
def test_hidden_characters_become_visible(name, shown):
    assert printable(name) == shown
    assert printable(name).encode("utf-8")


def test_endless_text_is_cut():
    assert len(printable("\x00" * 10**6)) < 5000


def test_a_score_never_rounds_to_certainty():
    assert [score(value) for value in (0, 1e-9, 0.0415, 0.99999, 1)] == [
        "0.000",
        "<0.001",
        "0.042",
        ">0.999",
        "1.000",
    ]


def test_times_are_utc_also_when_naive():
    east = timezone(timedelta(hours=8))
    assert utc(datetime(2026, 5, 3, 8, 0, tzinfo=east)) == "2026-05-03 00:00:00 UTC"
    assert utc(datetime(2026, 5, 3, 8, 0)) == utc(datetime(2026, 5, 3, 8, 0, tzinfo=UTC))


def test_small_children_have_an_age_in_months():
    assert (age(0.5), age(64)) == ("6 months", "64 years")


def test_nobody_is_made_older_than_they_are():
    assert (age(5.9), age(1.99)) == ("5 years", "24 months")


def test_a_phrase_becomes_one_sentence():
    assert [sentence(phrase) for phrase in ("no contrast", "Why?", "Done.", "")] == [
        "No contrast.",
        "Why?",
        "Done.",
        "",
    ]


def test_paths_are_shown_name_first():
    assert (filename("/a/b.png"), folder("/a/b.png")) == ("b.png", "/a/")
    assert (filename("b.png"), folder("b.png")) == ("b.png", "")
    assert words("lateral-view") == "Lateral view"
