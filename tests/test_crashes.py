"""A worker that dies of itself leaves a trace; one that is killed does not."""

import signal
import subprocess
import sys

import pytest

from worker.crashes import CrashRecord

LIFE = """
import ctypes, os, sys
from worker.crashes import CrashRecord
record = CrashRecord(sys.argv[1])
record.arm()
{end}
"""


@pytest.fixture
def died(tmp_path, repository):
    """What is found after a life that ended so."""

    def live(end):
        database = str(tmp_path / "screen.db")
        code = LIFE.format(end=end)
        ended = subprocess.run(
            [sys.executable, "-c", code, database],
            cwd=repository,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return CrashRecord(database).found(), ended.returncode

    return live


@pytest.mark.parametrize(
    ("end", "number"),
    [
        ("ctypes.string_at(0)", signal.SIGSEGV),
        ("os.abort()", signal.SIGABRT),
        ("os.kill(os.getpid(), 8)", signal.SIGFPE),
    ],
)
def test_a_fault_leaves_a_trace(died, end, number):
    found, code = died(end)
    assert code == -number
    assert found.startswith("Fatal Python error")


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)", "pass"])
def test_a_kill_leaves_none(died, end):
    found, _ = died(end)
    assert found is None


def test_an_error_of_the_program_leaves_its_kind_and_not_its_words(died):
    found, _ = died("record.note(ValueError('Jane Doe.dcm'))")
    assert found == "ValueError"


def test_a_new_life_forgets_the_trace_of_the_one_before(died):
    died("os.abort()")
    assert died("record.disarm()")[0] is None


def test_where_no_worker_ever_ran_there_is_no_trace(tmp_path):
    assert CrashRecord(str(tmp_path / "screen.db")).found() is None
