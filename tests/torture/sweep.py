"""Kill a worker again and again, let it live once more, and judge what is there.

A trial is a history: files are fed, lives are cut short by blows, more files come, and at last the
worker lives until it has nothing left to do. Each life is a forked process of its own, so a kill is
a real SIGKILL. A trial's number is its seed: it can be repeated alone.
"""

import itertools
import mmap
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture import judge
from tests.torture.broken import PROTOCOLS
from tests.torture.films import Fed, Kind, draw
from tests.torture.victim import CRASHED, Blow, live
from worker.failpoints import FAILPOINTS
from worker.site import init_site

DEEDS = ("stop", "full", "locked")  # beside the kill
NOT_DONE = "not done after"
_LIVES, _LIVES_PER_KILLER = 12, 6  # beyond them no progress is made
_LONGEST_LIFE_S = 10.0  # a life that takes longer hangs
_TAME = (Kind.FILM, Kind.BROKEN)
_SETTINGS = """
[watch]
settle_s = 0
[batch]
size = {size}
max_age_s = 0
[database]
busy_timeout_s = 5
"""


@dataclass
class Tally:
    """What a sweep has seen so far."""

    trials: int = 0
    lives: int = 0
    kills: Counter[str] = field(default_factory=Counter)  # by failpoint, or `at any time`
    deeds: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """One history: for each life but the last the blow, or the milliseconds until a kill."""

    seed: int
    blows: tuple[Blow | float, ...]
    archive: bool = False
    restless: bool = False
    broken: str | None = None


def every_failpoint() -> Iterator[Trial]:
    """A kill at each failpoint: at its first time, at its third, and at its first five times over.

    Six kills in a row at one place show whether a film is blamed for them.
    """
    for number, point in enumerate(FAILPOINTS):
        for archive in (False, True):
            yield Trial(number, (Blow("kill", point),), archive)
            yield Trial(number + 1000, (Blow("kill", point, 3),), archive)
            yield Trial(number + 2000, (Blow("kill", point),) * 6, archive)
        yield Trial(number + 3000, (Blow("kill", point),), restless=True)


def at_random(seed: int) -> Trial:
    """One to four blows: kills at failpoints or at any moment, now and then something milder."""
    rng = random.Random(seed)
    blows: list[Blow | float] = []
    for _ in range(rng.choice((1, 2, 2, 2, 3, 4))):
        draw_of = rng.random()
        if draw_of < 0.25:
            blows.append(rng.uniform(5, 120))
        else:
            deed = "kill" if draw_of < 0.9 else rng.choice(DEEDS)
            blows.append(Blow(deed, rng.choice(FAILPOINTS), rng.choice((1, 1, 2, 3, 5))))
    archive, restless = rng.random() < 0.2, rng.random() < 0.2
    return Trial(seed, tuple(blows), archive, restless)


class Arena:
    """A folder in which trials are held; `template` is a fresh site that each one copies."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "site"
        self._template, self._folder = folder / "template", folder
        self._scratch = folder / "scratch"
        init_site(self._template)
        self._reached = mmap.mmap(-1, 4 * len(FAILPOINTS))
        self.tally = Tally()

    def warm_up(self) -> None:
        """One life in this process: templates that it compiles are there in every fork."""
        rng = random.Random(0)
        self._clear(rng)
        self._feed(self.root / "inbox", [each for each in draw(rng, 5, []) if each.kind in _TAME])
        live(self.root, self._scratch, None, None, lambda _name: None, restless=False)

    def hold(self, trial: Trial) -> list[str]:
        """Hold one trial; return what was wrong."""
        rng = random.Random(trial.seed)
        archive = self._clear(rng)
        feed_to = archive if trial.archive else self.root / "inbox"
        fed: list[Fed] = []
        died, quiet = False, 0
        self.tally.trials += 1
        for number in itertools.count():
            if number > _LIVES + _LIVES_PER_KILLER * sum(f.kind == Kind.KILLER for f in fed):
                return self._report(trial, [f"{NOT_DONE} {number} lives"])
            if number <= len(trial.blows):
                fed += self._feed(feed_to, draw(rng, rng.randint(1, 5), fed))
            blow = trial.blows[number] if number < len(trial.blows) else None
            status = self._live(trial, archive if trial.archive else None, blow)
            died |= self._crashed(status)
            faults = [] if trial.archive else judge.at_any_moment(self.root, fed)
            if faults:
                return self._report(trial, faults)
            quiet += blow is None and status == 0
            if quiet > trial.archive:  # the run after a list was finished finds what came since
                place = archive if trial.archive else None
                history = judge.History(self.root, self.root / "screen.db", fed, place, died)
                return self._report(trial, judge.at_the_end(history))
            if status >> 8 == CRASHED and not any(each.kind == Kind.KILLER for each in fed):
                return self._report(trial, [(self._scratch / "traceback").read_text()])
        raise AssertionError

    def _report(self, trial: Trial, faults: list[str]) -> list[str]:
        self.tally.faults += [f"{trial}: {fault}" for fault in faults]
        return faults

    def _clear(self, rng: random.Random) -> Path:
        for name in ("site", "archive", "scratch"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        shutil.copytree(self._template, self.root)
        for name in ("archive", "scratch"):
            (self._folder / name).mkdir()
        settings = _SETTINGS.format(size=rng.randint(1, 4))
        (self.root / "config.toml").write_text(settings)
        return self._folder / "archive"

    @staticmethod
    def _feed(folder: Path, files: list[Fed]) -> list[Fed]:
        for each in files:
            each.drop(folder)
        return files

    def _live(self, trial: Trial, archive: Path | None, blow: Blow | float | None) -> int:
        """One life; returns its wait status."""
        self._reached[:] = bytes(len(self._reached))
        struck = blow if isinstance(blow, Blow) else None
        pid = fork(lambda: self._lived(trial, archive, struck))
        if isinstance(blow, float):
            time.sleep(blow / 1000)
            os.kill(pid, signal.SIGKILL)
        status = wait_for(pid)
        self._count(blow, status)
        return status

    def _lived(self, trial: Trial, archive: Path | None, blow: Blow | None) -> int:
        if trial.broken:
            PROTOCOLS[trial.broken].break_it()
        return live(self.root, self._scratch, archive, blow, self._saw, restless=trial.restless)

    def _saw(self, name: str) -> None:
        at = 4 * FAILPOINTS.index(name)
        count = int.from_bytes(self._reached[at : at + 4], "little") + 1
        self._reached[at : at + 4] = count.to_bytes(4, "little")

    def _count(self, blow: Blow | float | None, status: int) -> None:
        self.tally.lives += 1
        for number, name in enumerate(FAILPOINTS):
            count = int.from_bytes(self._reached[4 * number : 4 * number + 4], "little")
            if count:
                self.tally.reached[name] += count
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.tally.kills[blow.point if isinstance(blow, Blow) else "at any time"] += 1
        elif isinstance(blow, Blow) and blow.deed != "kill" and os.WEXITSTATUS(status) == 1:
            self.tally.deeds[blow.deed] += 1

    @staticmethod
    def _crashed(status: int) -> bool:
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        return os.waitstatus_to_exitcode(status) not in (0, 1) and not killed


def fork(life: Callable[[], int]) -> int:
    """Run a life in a process of its own; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os._exit(life())
    finally:
        os._exit(CRASHED)


def wait_for(pid: int, longest_s: float = _LONGEST_LIFE_S) -> int:
    """The wait status of a life; one that hangs is killed, and counts as crashed."""
    deadline = time.monotonic() + longest_s
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if ended:
            return status
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return CRASHED << 8
        time.sleep(0.001)
