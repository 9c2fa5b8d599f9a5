"""What is said on a terminal cannot command it."""

import pytest

ESCAPE = "\x1b[2J\x1b]0;owned\x07"


def test_an_error_that_names_a_cell_of_a_table_shows_its_escapes(screen, tmp_path):
    (tmp_path / "films").mkdir()
    labels = tmp_path / "labels.csv"
    labels.write_text(f"file,label\nfilm.jpg,{ESCAPE}\n")
    refused = screen("evaluate", tmp_path / "films", "--labels", labels, cwd=tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "\x1b" not in refused.stderr


@pytest.mark.parametrize("command", ["classify", "backfill", "evaluate"])
def test_an_error_that_names_a_file_shows_its_escapes(screen, tmp_path, command):
    refused = screen(command, tmp_path / f"film{ESCAPE}\n.jpg", cwd=tmp_path)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "\x1b" not in refused.stderr


def test_an_error_about_a_configuration_shows_the_escapes_of_its_name(screen, tmp_path):
    """It was printed as it was."""
    name = f"config{ESCAPE}.toml"
    (tmp_path / name).write_text("[model]\nname = 1\n")
    refused = screen("--config", name, "status", cwd=tmp_path)
    assert refused.returncode == 2
    assert "\x1b" not in refused.stderr
