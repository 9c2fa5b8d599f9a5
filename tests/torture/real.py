"""Kill the real worker, and its decoders, at any moment: the shipped model on real films.

Each life is `screen watch --once` in a forked process that has torch imported already; decoders are
the real child processes.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.torture import judge
from tests.torture.films import Fed, Kind
from tests.torture.sweep import NOT_DONE, Tally, fork, wait_for
from worker.site import init_site

_SETTINGS = "[watch]\nsettle_s = 0\n[batch]\nsize = 4\nmax_age_s = 0\n[decode]\nprocesses = 1\n"
_LONGEST_LIFE_S = 120.0
_LIVES = 20
_FILMS_PER_TRIAL = 16
_STARTS_IN_S = 30.0  # loading the model; only then is there something to be lost
_AT_WORK_S = 0.8  # about as long as that many films take
_SHARE_OF_DECODERS = 0.5


class RealArena:
    """A folder in which a real worker is killed over copies of real films."""

    def __init__(self, folder: Path, films: Sequence[Path]) -> None:
        self._folder = folder
        self._films = [path.read_bytes() for path in films]
        self.tally = Tally()

    def hold(self, seed: int) -> list[str]:
        """One history: films, kills of worker and decoders, a last life in peace."""
        rng = random.Random(seed)
        root = self._folder / "site"
        shutil.rmtree(root, ignore_errors=True)
        config, _ = init_site(root)
        assert config.source is not None
        config.source.write_text(_SETTINGS)
        fed = self._draw(rng)
        for each in fed:
            each.drop(root / "inbox")
        decoders = False
        for _ in range(rng.randint(2, 4)):
            decoders |= self._killed(root, rng)
            if faults := judge.at_any_moment(root, fed):
                return self._report(seed, faults)
        for _ in range(_LIVES):
            self.tally.lives += 1
            if os.waitstatus_to_exitcode(wait_for(fork(lambda: _watch(root)), _LONGEST_LIFE_S)) in (
                0,
                3,
            ):
                history = judge.History(root, root / "screen.db", fed, decoders_killed=decoders)
                return self._report(seed, judge.at_the_end(history))
        return self._report(seed, [f"{NOT_DONE} {_LIVES} lives"])

    def _report(self, seed: int, faults: list[str]) -> list[str]:
        self.tally.trials += 1
        self.tally.faults += [f"real trial {seed}: {fault}" for fault in faults]
        return faults

    def _draw(self, rng: random.Random) -> list[Fed]:
        """Real films made distinct by bytes after their end marker, broken ones, and a twin."""
        fed = []
        for number in range(_FILMS_PER_TRIAL):
            content = rng.choice(self._films) + rng.randbytes(8)
            kind = Kind.FILM
            if rng.random() < 0.15:
                content, kind = b"no film at all" + rng.randbytes(8), Kind.BROKEN
            fed.append(Fed(f"f{number}.jpg", content, kind))
        twin = rng.choice(fed)
        return [*fed, Fed("twin.jpg", twin.content, twin.kind)]

    def _killed(self, root: Path, rng: random.Random) -> bool:
        """One life cut short; whether it was a decoder that was killed, and not the worker."""
        self.tally.lives += 1
        pid = fork(lambda: _watch(root))
        _wait_for_decoders(pid)
        time.sleep(rng.uniform(0, _AT_WORK_S))
        children = _children(pid)
        if children and rng.random() < _SHARE_OF_DECODERS:
            os.kill(rng.choice(children), signal.SIGKILL)
            self.tally.kills["a decoder"] += 1
            wait_for(pid, _LONGEST_LIFE_S)
            return True
        os.kill(pid, signal.SIGKILL)
        if os.WIFSIGNALED(wait_for(pid)):
            self.tally.kills["the real worker"] += 1
        return False


def _wait_for_decoders(pid: int) -> None:
    """Wait until the worker has started a decoder, or has ended."""
    deadline = time.monotonic() + _STARTS_IN_S
    while not _children(pid) and time.monotonic() < deadline and not _has_ended(pid):
        time.sleep(0.005)


def _has_ended(pid: int) -> bool:
    """Whether a child of ours has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _children(pid: int) -> list[int]:
    """Processes that any thread of this one has started: decoders are started by their feeders."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            children += map(int, (task / "children").read_text().split())
    return children


def _watch(root: Path) -> int:
    """The real command, from its command line on."""
    from worker.cli.main import cli

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        cli.main(["watch", "--once", "--config", str(root / "config.toml")], standalone_mode=False)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
