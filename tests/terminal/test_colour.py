"""Colour stresses words on a terminal, is off where nobody wants it, and is never in data."""

import json
import shutil

import pytest

from worker.cli import style

ESCAPE = "\x1b["


@pytest.fixture
def film(sample_films, desk):
    """One film that the tiny model answers."""
    return shutil.copy(next((sample_films / "PNEUMONIA").iterdir()), desk / "a.jpeg")


def coloured(text):
    return "\x1b[3" in text  # of a foreground; bars take lines back with other means


def test_a_table_on_a_terminal_is_coloured(on_terminal, desk):
    (desk / "notes.txt").write_text("no film")
    seen = on_terminal("classify", "notes.txt", cwd=desk)
    assert coloured(seen.terminal)
    assert "REFUSED" in seen.terminal


@pytest.mark.parametrize("off", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_it_is_plain_where_that_is_wanted(on_terminal, desk, off):
    (desk / "notes.txt").write_text("no film")
    seen = on_terminal("classify", "notes.txt", cwd=desk, **off)
    assert "REFUSED" in seen.terminal
    assert ESCAPE not in seen.terminal


def test_an_empty_no_color_is_none(on_terminal, desk):
    (desk / "notes.txt").write_text("no film")
    assert coloured(on_terminal("classify", "notes.txt", cwd=desk, NO_COLOR="").terminal)


def test_a_pipe_has_no_escapes(screen, desk):
    (desk / "notes.txt").write_text("no film")
    ended = screen("classify", "notes.txt", cwd=desk)
    assert ESCAPE not in ended.stdout + ended.stderr


def test_json_on_a_terminal_has_no_escapes(on_terminal, desk, film):
    seen = on_terminal("classify", film, "--json", cwd=desk, FORCE_COLOR="1")
    assert ESCAPE not in seen.terminal
    assert json.loads(seen.terminal.strip())["file"] == str(film)


def test_doctor_says_ok_and_wrong_in_words_too(on_terminal, clinic):
    (clinic / "config.toml").write_text("[model]\nname = 'gone'\n")
    seen = on_terminal("doctor", cwd=clinic)
    assert coloured(seen.terminal)
    assert "WRONG" in seen.terminal
    assert "ok " in seen.terminal


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, None),
        ({"TERM": "dumb"}, False),
    ],
)
def test_who_decides(monkeypatch, variables, expected):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert style.chosen() is expected


def test_a_decision_of_any_model_keeps_its_word_and_width():
    labels = ("CLEAR", "TUBERCULOSIS")
    for word in (*labels, "INDETERMINATE", "REFUSED", style.FAILED, "UNHEARD OF"):
        shown = style.decision(word, labels, 15)
        assert f"{word:<15}" in shown
    assert coloured(style.decision("TUBERCULOSIS", labels))
    assert not coloured(style.decision("CLEAR", labels))
