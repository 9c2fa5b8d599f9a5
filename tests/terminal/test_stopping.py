"""Ctrl-C ends in one line that says how to go on; a pipe that breaks says nothing."""

import json
import subprocess
import sys

import pytest

from tests.conftest import screen_environment
from tests.terminal.conftest import configure

CTRL_C = "\x03"


def last_line(seen):
    return seen.terminal.strip().splitlines()[-1].rpartition("\r")[2]


def test_classify_says_how_many_files_it_looked_at(on_terminal, desk, many_films):
    seen = on_terminal("classify", many_films, cwd=desk, type_at=("film-030", CTRL_C))
    assert seen.code == 130
    assert last_line(seen).startswith("screen: stopped: ")
    assert "nothing was changed" in last_line(seen)
    assert "Traceback" not in seen.terminal


def test_evaluate_says_that_nothing_was_written(on_terminal, desk, many_films):
    for label in ("NORMAL", "PNEUMONIA"):
        (desk / "set" / label).mkdir(parents=True)
        for path in sorted(many_films.iterdir())[:: 2 if label == "NORMAL" else 3]:
            (desk / "set" / label / path.name).hardlink_to(path)
    seen = on_terminal("evaluate", "set", "--json", "r.json", cwd=desk, type_at=("film/s", CTRL_C))
    assert seen.code == 130
    assert "nothing was measured or written" in last_line(seen)
    assert not (desk / "r.json").exists()


def test_a_backfill_that_was_stopped_goes_on_with_the_same_command(
    on_terminal, clinic, many_films, screen
):
    seen = on_terminal("backfill", many_films, cwd=clinic, type_at=(" film/s", CTRL_C))
    assert seen.code == 130
    assert "the same command goes on where this one stopped" in last_line(seen)
    assert "Traceback" not in seen.terminal
    assert screen("backfill", many_films, cwd=clinic).returncode == 0
    assert len(json.loads(screen("query", "--json", cwd=clinic).stdout)) == 200


def test_an_inbox_that_was_left_goes_on_with_the_same_command(
    on_terminal, clinic, many_films, screen
):
    for path in many_films.iterdir():
        (clinic / "inbox" / path.name).write_bytes(path.read_bytes())
    seen = on_terminal("watch", "--once", cwd=clinic, type_at=("/200", CTRL_C))
    assert seen.code == 130
    assert "the same command goes on where this one stopped" in last_line(seen)
    assert screen("watch", "--once", cwd=clinic).returncode == 0
    assert len(list((clinic / "done").iterdir())) == 200


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path, tiny_model, many_films, form):
    """`screen classify films | head -1`."""
    configure(tmp_path, tiny_model)
    asked = subprocess.Popen(
        [sys.executable, "-m", "worker", "classify", many_films, *form],
        cwd=tmp_path,
        env=screen_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "film-000" in asked.stdout.readline()
    asked.stdout.close()
    said = asked.stderr.read()
    assert (asked.wait(60), said) == (1, "")
