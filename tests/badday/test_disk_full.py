"""A full disk: intake pauses and says so, blames no film, and goes on by itself."""

import os
import signal

import pytest

from tests.badday.conftest import filled
from tests.badday.ward import FILMS, drop, is_empty, new_site, query, wait_until, wrongs

MANY = FILMS | {f"{number}.jpg": b"film %d" % number for number in range(20)}


@pytest.mark.slow
@pytest.mark.parametrize("leave_kib", [0, 12, 48, 160])
def test_a_disk_that_fills_up_at_any_moment_costs_no_film(small_disk, worker, leave_kib):
    """The less is left, the earlier in the way of a film it is missing."""
    config = new_site(small_disk / "site")
    watching = worker(config)
    watching.signal(signal.SIGSTOP)
    drop(config, MANY)
    with filled(small_disk, leave_kib << 10):
        watching.signal(signal.SIGCONT)
        assert watching.says("intake paused")
        assert "No space left on device" in watching.log() or "disk is full" in watching.log()
        assert query(config, "SELECT count(*) FROM failures WHERE reason != 'not-a-film'") == [(0,)]
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    assert wrongs(config, MANY) == []


@pytest.mark.slow
def test_a_disk_that_is_full_again_and_again_costs_no_film(small_disk, worker):
    config = new_site(small_disk / "site")
    watching = worker(config)
    for round_ in range(3):
        watching.signal(signal.SIGSTOP)
        drop(config, {f"{round_}-{n}.jpg": b"%d %d" % (round_, n) for n in range(8)})
        with filled(small_disk, 24 << 10):
            watching.signal(signal.SIGCONT)
            assert watching.says("intake paused", times=round_ + 1)
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    films = {f"{r}-{n}.jpg": b"%d %d" % (r, n) for r in range(3) for n in range(8)}
    assert wrongs(config, films) == []
    assert not [
        name for _, _, files in os.walk(config.root) for name in files if ".screen-" in name
    ]
