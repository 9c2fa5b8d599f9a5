"""Folders of a process's own: gone with it, and those of the dead with the next."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import screen_environment
from worker.scratch import scratch

HOLDS = """
import sys, time
from pathlib import Path
from worker.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "film").write_bytes(b"film")
    print(folder, flush=True)
    time.sleep(600)
"""


def holder(parent):
    """Another process with a folder of its own; it and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, parent],
        env=screen_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, Path(process.stdout.readline().strip())


def test_it_is_closed_to_others_and_goes_at_the_end(tmp_path):
    with scratch(tmp_path / "new") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "film").write_bytes(b"film")
    assert list((tmp_path / "new").iterdir()) == []


def test_that_of_a_living_process_stays_and_that_of_a_dead_one_goes(tmp_path):
    process, folder = holder(tmp_path)
    try:
        with scratch(tmp_path) as mine:
            assert sorted(tmp_path.iterdir()) == sorted([folder, mine])
        assert (folder / "film").is_file()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (folder / "film").is_file()
    with scratch(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize("step", ["os.open", "fcntl.flock"])
def test_one_that_was_taken_for_abandoned_before_it_was_locked_is_made_anew(
    tmp_path, monkeypatch, step
):
    module, _, name = step.partition(".")
    real, taken = getattr(sys.modules[module], name), []

    def late(*arguments):
        if not taken and any(tmp_path.iterdir()):
            taken.append(1)
            next(tmp_path.iterdir()).rmdir()
        return real(*arguments)

    monkeypatch.setattr(f"worker.scratch.{step}", late)
    with scratch(tmp_path) as folder:
        assert folder.is_dir()
    assert taken
