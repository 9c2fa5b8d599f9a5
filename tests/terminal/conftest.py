"""A terminal of our own: programs run on it, and what they write is read."""

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import screen_environment

_PATIENCE_S = 60


@dataclass(frozen=True)
class Seen:
    """What a program wrote to its terminal, to stdout if that was a file, and its exit code."""

    terminal: str
    stdout: str
    code: int


@pytest.fixture(scope="session")
def on_terminal():
    """Run the real program on a terminal: `on_terminal("query", cwd=...)`.

    `type_at` types keys once a text was seen; `to_file` sends stdout to a file.
    """

    def run(*arguments, cwd, type_at=None, to_file=False, width=100, **environment):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
        file = tempfile.TemporaryFile()  # noqa: SIM115 — closed below
        started = subprocess.Popen(
            [sys.executable, "-m", "worker", *map(str, arguments)],
            cwd=cwd,
            env=screen_environment() | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | environment,
            stdin=theirs,
            stdout=file if to_file else theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 — no thread of ours holds a lock here
        )
        os.close(theirs)
        try:
            seen = _read(ours, type_at)
            code = started.wait(_PATIENCE_S)
            file.seek(0)
            return Seen(seen, file.read().decode(), code)
        finally:
            file.close()
            started.kill()
            started.wait()
            os.close(ours)

    return run


def _take_terminal():
    """Make stderr the terminal whose Ctrl-C this program gets."""
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


def _read(terminal, type_at):
    """All that is written until the last program has closed the terminal."""
    text, deadline = b"", time.monotonic() + _PATIENCE_S
    while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # EIO: nobody has it open any more
            break
        text += piece
        if type_at and type_at[0].encode() in text:
            os.write(terminal, type_at[1].encode())
            type_at = None
    else:
        pytest.fail(f"the program did not end: {text[-500:]!r}")
    assert type_at is None, f"never saw {type_at[0]!r} in {text[-500:]!r}"
    return text.decode()


def configure(folder: Path, model: Path) -> None:
    (folder / "config.toml").write_text(
        f"[watch]\nsettle_s = 0.2\n[decode]\nprocesses = 2\n[batch]\nsize = 8\n"
        f"[model]\nname = '{model}'\nprecision = 'float32'\n"
    )


@pytest.fixture(scope="session")
def many_films(tmp_path_factory, sample_films):
    """Films enough to be stopped among them: 200, each with content of its own."""
    folder = tmp_path_factory.mktemp("many") / "films"
    folder.mkdir()
    given = sorted(sample_films.rglob("*.jpeg"))
    for number in range(200):
        path = folder / f"film-{number:03}.jpeg"
        shutil.copy(given[number % len(given)], path)
        with path.open("ab") as file:
            file.write(b"%d" % number)
    return folder


@pytest.fixture
def desk(tmp_path, tiny_model):
    """A folder with a configuration and no site."""
    configure(tmp_path, tiny_model)
    return tmp_path


@pytest.fixture
def clinic(tmp_path, screen, tiny_model):
    """A site that has done nothing yet."""
    assert screen("init", tmp_path / "clinic", cwd=tmp_path).returncode == 0
    configure(tmp_path / "clinic", tiny_model)
    return tmp_path / "clinic"
