"""Completion in a real bash; the scripts of the other shells where those are installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import screen_environment

BIN = Path(sys.executable).parent
NAMES = ("screen", "cxr-screen")


def environment():
    ours = screen_environment()
    return ours | {"PATH": f"{BIN}:{ours['PATH']}"}


def completed(line, cwd, name="screen"):
    """What bash offers at the end of a line."""
    words = line.split(" ")
    script = (
        'eval "$(screen completion bash)"\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        "compopt() { printf 'compopt %s %s\\n' \"$@\"; }\n"  # a builtin only of real key presses
        f"_{name.replace('-', '_')}_completion {name}\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stderr == ""
    return ended.stdout.split("\n")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_bash_completes_commands_by_either_name(tmp_path, name):
    assert completed(f"{name} cl", tmp_path, name) == ["classify"]
    assert "models" in completed(f"{name} m", tmp_path, name)


def test_bash_completes_options_and_their_values(tmp_path):
    assert "--overlay" in completed("screen classify --o", tmp_path)
    models = completed("screen classify --model ", tmp_path)
    assert models == ["default", "kermany-mobilenet-v2", "kermany-ensemble"]
    assert "truncated-file" in completed("screen failed list --reason t", tmp_path)
    assert completed("screen completion f", tmp_path) == ["fish"]


def test_bash_completes_folders_where_no_model_is_meant(tmp_path):
    assert completed("screen classify --model ./my", tmp_path) == ["compopt -o dirnames", ""]


def test_bash_completes_the_runs_and_failures_of_a_site(clinic, screen):
    (clinic / "inbox" / "notes.txt").write_text("no film")
    assert screen("watch", "--once", cwd=clinic).returncode == 3
    assert completed("screen report ", clinic) == ["1"]
    assert completed("screen failed show ", clinic) == ["1"]
    assert completed(f"screen report --config {clinic}/config.toml ", clinic.parent) == ["1"]


@pytest.mark.parametrize("line", ["screen report ", "screen failed retry "])
def test_where_there_is_no_site_nothing_is_offered_or_said(tmp_path, line):
    assert completed(line, tmp_path) == [""]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_the_other_shells_is_sound(screen, tmp_path, shell):
    ended = screen("completion", shell, cwd=tmp_path)
    assert ended.returncode == 0
    for variable in ("_SCREEN_COMPLETE", "_CXR_SCREEN_COMPLETE"):
        assert f"{variable}={shell}_complete" in ended.stdout
    if shutil.which(shell):
        (tmp_path / "script").write_text(ended.stdout)
        subprocess.run([shell, "--no-execute", tmp_path / "script"], check=True, timeout=30)


@pytest.mark.parametrize("line", ["screen ", "screen classify --model "])
def test_a_key_press_waits_for_no_heavy_import(line):
    code = (
        "import sys\nfrom worker.cli.main import cli\n"
        "from click.shell_completion import ShellComplete\n"
        f"ShellComplete(cli, {{}}, 'screen', '').get_completions({line.split()[1:]!r}, '')\n"
        "print(sorted({'torch', 'cv2', 'pydicom', 'sklearn', 'sqlalchemy'} & sys.modules.keys()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.strip() == "[]"
