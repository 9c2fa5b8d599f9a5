"""The worker is killed at every step and loses nothing; a sweep of broken ones says so.

Each test is a process of its own: lives are forks, and threads of other tests must not be in them.
"""

import re
import subprocess
import sys

import pytest

from tests.torture.broken import PROTOCOLS, UNSYNCED
from worker.failpoints import ANSWER_FAILPOINTS, FAILPOINTS


@pytest.fixture
def torture(repository, tmp_path):
    """Run `python -m tests.torture` with these arguments; returns (exit status, what it said)."""

    def run(*arguments):
        command = [sys.executable, "-m", "tests.torture", "--state", str(tmp_path / "state")]
        ended = subprocess.run(
            [*command, *map(str, arguments)],
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run


def test_every_failpoint_stands_in_the_code(repository):
    used = set()
    for path in (repository / "worker").rglob("*.py"):
        used |= set(re.findall(r'\breach\("([a-z-]+)"\)', path.read_text()))
    assert used == {*FAILPOINTS, *ANSWER_FAILPOINTS}


@pytest.mark.slow
def test_after_kills_at_every_failpoint_and_200_at_random_nothing_is_lost_or_twice(torture):
    """Every failpoint makes 300 kills; the rest is drawn at random."""
    status, said = torture("--kills", 520, "--power-cuts", 0, "--real-kills", 0)
    assert status == 0, said
    assert "never reached: none" in said
    assert "; 0 faults" in said


@pytest.mark.slow
def test_after_power_cuts_nothing_is_lost_or_twice(torture, may_mount):
    status, said = torture("--kills", 0, "--power-cuts", 20, "--real-kills", 0)
    assert status == 0, said
    assert "; 0 faults" in said


@pytest.mark.slow
def test_after_kills_of_the_real_worker_and_its_decoders_nothing_is_lost_or_twice(torture):
    status, said = torture("--kills", 0, "--power-cuts", 0, "--real-kills", 3)
    assert status == 0, said
    assert "; 0 faults" in said


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_protocol_is_caught(torture, protocol):
    status, said = torture("--broken", protocol)
    assert status == 1
    assert f"{protocol}: caught" in said


@pytest.mark.slow
@pytest.mark.parametrize("protocol", UNSYNCED)
def test_a_protocol_that_does_not_sync_is_caught(torture, protocol, may_mount):
    test_a_broken_protocol_is_caught(torture, protocol)
