"""What is said when something is wrong: what happened, and what to do next."""

import sqlite3

import pytest


def only_line(ended):
    assert "Traceback" not in ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def test_a_command_that_is_almost_right_is_named(screen, tmp_path):
    ended = screen("qurey", cwd=tmp_path)
    assert ended.returncode == 2
    assert "query" in only_line(ended)


def test_no_arguments_show_the_help(screen, tmp_path):
    ended = screen(cwd=tmp_path)
    assert ended.returncode == 2
    assert "screen init clinic" in ended.stderr


def test_a_database_that_is_gone_names_backups_before_an_empty_one(clinic, screen):
    (clinic / "screen.db").unlink()
    line = only_line(screen("query", cwd=clinic))
    assert line.index("screen db restore") < line.index("screen db upgrade")


def test_a_locked_database_says_who_and_what_to_do(clinic, screen):
    text = (clinic / "config.toml").read_text()
    (clinic / "config.toml").write_text(text + "[database]\nbusy_timeout_s = 0.2\n")
    holder = sqlite3.connect(clinic / "screen.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    ended = screen("failed", "retry", "--all", cwd=clinic)
    holder.close()
    assert ended.returncode == 1
    assert "Another program holds it: close that" in only_line(ended)


def test_a_damaged_database_points_at_a_backup(clinic, screen):
    (clinic / "screen.db").write_bytes(b"no database at all " * 400)
    ended = screen("query", cwd=clinic)
    assert ended.returncode == 1
    assert "screen db restore" in only_line(ended)


@pytest.mark.parametrize("command", ["watch --once", "backfill"])
def test_who_failed_is_said_with_where_to_look(clinic, screen, tmp_path, command):
    folder = tmp_path / "archive" if command == "backfill" else clinic / "inbox"
    folder.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("no film")
    ended = screen(*command.split(), *([folder] if command == "backfill" else []), cwd=clinic)
    assert ended.returncode == 3
    assert "'screen failed list'" in ended.stderr.splitlines()[-1]


def test_films_of_too_few_patients_are_said_before_the_training(screen, tmp_path, sample_films):
    """It trained, and then ended with a traceback: nothing was held out."""
    given = ("train", sample_films, "--out", "m", "--start", "random", "--size-px", "32")
    ended = screen(*given, cwd=tmp_path)
    assert ended.returncode == 2
    assert "epoch" not in ended.stderr
    assert "too few patients" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
