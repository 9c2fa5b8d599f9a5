"""Bars are for people at a terminal: scripts never see one, and lines never run into one."""

import io
import json
import logging
import re
import sys

from worker.cli import progress

BAR = re.compile(r"\d+%\|.*\| \d+/200 \[[\d:]+<[\d:?]+,\s+[\d.?]+ film/s")


def test_a_bar_shows_rate_and_time_left_on_a_terminal(on_terminal, desk, many_films):
    seen = on_terminal("classify", many_films, "--json", cwd=desk, to_file=True)
    assert seen.code == 0
    assert BAR.search(seen.terminal)
    assert len([json.loads(line) for line in seen.stdout.splitlines()]) == 200


def test_lines_on_the_same_terminal_stand_above_the_bar(on_terminal, desk, many_films):
    seen = on_terminal("classify", many_films, cwd=desk)
    answers = [line for line in seen.terminal.split("\r\n") if ".jpeg" in line]
    assert len(answers) == 200
    shown = [line.rpartition("\r")[2] for line in answers]
    assert not [line for line in shown if "film/s" in line]
    assert seen.terminal.rpartition("\r\n")[2].split("\r")[-1].strip() == ""  # taken away


def test_nothing_is_shown_where_stderr_is_no_terminal(screen, desk, many_films):
    ended = screen("classify", many_films, "--json", cwd=desk)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_nothing_is_shown_on_a_terminal_that_cannot_take_a_line_back(on_terminal, desk, many_films):
    seen = on_terminal("classify", many_films, "--json", cwd=desk, to_file=True, TERM="dumb")
    assert seen.terminal == ""


def test_a_bar_is_plain_ascii_where_the_locale_is(on_terminal, desk, many_films):
    seen = on_terminal("classify", many_films, "--json", cwd=desk, to_file=True, LC_ALL="C")
    assert BAR.search(seen.terminal)
    assert seen.terminal.isascii()


def test_a_bar_is_as_wide_as_the_terminal(on_terminal, desk, many_films):
    seen = on_terminal("classify", many_films, "--json", cwd=desk, to_file=True, width=72)
    widest = max(len(part.rstrip("\n")) for part in seen.terminal.split("\r"))
    assert widest in (71, 72)


def test_an_inbox_that_is_empty_is_worked_off_too(screen, clinic):
    """Without a total tqdm is neither true nor false: the worker broke down."""
    ended = screen("watch", "--once", cwd=clinic)
    assert ended.returncode == 0, ended.stderr


def test_the_log_stands_above_the_bar_of_an_inbox_that_is_worked_off(
    on_terminal, clinic, many_films
):
    for path in many_films.iterdir():
        (clinic / "inbox" / path.name).write_bytes(path.read_bytes())
    (clinic / "inbox" / "notes.txt").write_text("no film")
    seen = on_terminal("watch", "--once", cwd=clinic)
    assert seen.code == 3
    assert re.search(r"\d+%\|.*\| \d+/201 \[", seen.terminal)
    (line,) = [line for line in seen.terminal.split("\r\n") if "not-a-film" in line]
    assert re.match(r"\d{4}-\d\d-\d\dT", line.rpartition("\r")[2])
    assert "1 files could not be screened" in seen.terminal


class Terminal(io.StringIO):
    """What claims to be a terminal."""

    def isatty(self):
        return True


def terminal(monkeypatch):
    """Stderr becomes a terminal, whose bars are seen at once."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "_DELAY_S", 0)
    monkeypatch.setenv("TERM", "xterm")
    return sys.stderr


def test_each_thing_that_is_told_has_a_bar_of_its_own(monkeypatch):
    seen = terminal(monkeypatch)
    with progress.told() as tell:
        tell("reading", 0, 4, "film")
        tell("reading", 3, 4, "film")
        tell("training", 5, 9, "film", "loss 0.5")
    shown = seen.getvalue()
    assert "reading" in shown
    assert "5/9" in shown


def test_what_begins_anew_has_a_new_bar(monkeypatch):
    seen = terminal(monkeypatch)
    with progress.told() as tell:
        tell("scoring", 4, 4, "film")
        tell("scoring", 0, 7, "film")
    assert "0/7" in seen.getvalue()


def test_the_log_writes_to_stderr_again_when_the_bar_is_gone(monkeypatch):
    terminal(monkeypatch)
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        with progress.bar("", 3, "film"):
            assert handler.stream is not sys.stderr
        assert handler.stream is sys.stderr
    finally:
        logging.getLogger().removeHandler(handler)


def test_one_film_needs_no_bar(monkeypatch):
    seen = terminal(monkeypatch)
    with progress.bar("", 1, "film") as shown:
        shown.update()
    assert seen.getvalue() == ""
