"""Eight workers on one database, struck again and again while films come in.

Each worker is a forked process of its own, as are the faults real: SIGKILL, SIGSTOP beyond the
lease, at any moment and at steps of the protocol, connections terminated by the server, the server
started again, workers ended and started. At the end every film must have exactly one result, one
page and one place.
"""

import mmap
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.cluster.field import LEASE_S, Field
from tests.cluster.victim import live
from tests.postgres import Server
from tests.torture.sweep import fork

WORKERS = 8
FREEZES = 0.03  # of all steps of the protocol are where a worker is paused
_FAULTS = {"kill": 25, "pause": 15, "terminate": 25, "end": 6, "sever": 3, "restart": 1}
_PAUSE_S = 0.4  # between two of them at the most: workers must come to work at all


@dataclass
class Tally:
    """What a siege has done so far."""

    faults: Counter[str] = field(default_factory=Counter)
    deaths: Counter[int] = field(default_factory=Counter)  # of workers, by exit status
    seen: dict[str, int] = field(default_factory=dict)


class Siege:
    """A site below `folder`, its workers, and what befalls them, by the seed of `rng`."""

    def __init__(self, folder: Path, server: Server, url: str, rng: random.Random) -> None:
        self._server, self._database, self._rng = server, make_url(url).database, rng
        self._field = Field(folder, url, rng)
        self._workers: list[int] = []
        self._paused: dict[int, float] = {}
        self._on = mmap.mmap(-1, 1)  # shared with the workers: whether they freeze
        self.tally = Tally()

    def hold(self, faults: int, films: int, most_s: float) -> list[str]:
        """Strike `faults` times while `films` come in; return what is wrong at the end."""
        deadline = time.monotonic() + most_s
        self._on[0] = 1
        self._workers = [self._worker() for _ in range(WORKERS)]
        try:
            while self.tally.faults.total() < faults:
                if len(self._field.fed) < films * (self.tally.faults.total() + 1) / faults:
                    self._field.feed(self._rng.randint(1, 6))
                self._strike()
                self._revive()
                time.sleep(self._rng.uniform(0, _PAUSE_S))
            self._on[0] = 0
            while time.monotonic() < deadline and not self._field.is_over():
                self._revive()
                time.sleep(0.2)
        finally:
            self._end_all()
        wrong = self._field.verdict()
        self.tally.seen = self._field.sums()
        return wrong

    def _worker(self) -> int:
        return fork(lambda: live(self._field.root, self._field.scratch, self._freezes))

    def _freezes(self) -> bool:
        """Whether a worker is to be paused at the step that it came to."""
        return bool(self._on[0]) and random.Random().random() < FREEZES

    def _strike(self) -> None:
        kinds, weights = zip(*_FAULTS.items(), strict=True)
        kind = self._rng.choices(kinds, weights)[0]
        awake = [pid for pid in self._workers if pid not in self._paused]
        victim = self._rng.choice(awake or self._workers)
        if kind == "kill":
            os.kill(victim, signal.SIGKILL)
        elif kind == "end":
            os.kill(victim, signal.SIGTERM)
        elif kind == "pause":
            if len(awake) < WORKERS // 2:
                return
            os.kill(victim, signal.SIGSTOP)
            self._paused[victim] = time.monotonic() + LEASE_S * self._rng.uniform(0.2, 2.5)
        elif kind == "restart":
            self._server.restart()
        else:
            self._terminate(every=kind == "sever")
        self.tally.faults[kind] += 1

    def _terminate(self, *, every: bool) -> None:
        """End one connection, or all."""
        asked = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        with psycopg.connect(self._server.url("postgres"), autocommit=True) as admin:
            pids = [row[0] for row in admin.execute(asked, [self._database])]
            for pid in pids if every else self._rng.sample(pids, min(1, len(pids))):
                admin.execute("SELECT pg_terminate_backend(%s)", [pid])

    def _revive(self) -> None:
        """Wake who slept for long enough; start anew who died."""
        for pid in [pid for pid, until in self._paused.items() if time.monotonic() >= until]:
            os.kill(pid, signal.SIGCONT)
            del self._paused[pid]
        for number, pid in enumerate(self._workers):
            ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                if pid not in self._paused:  # it froze at a step of the protocol
                    self._paused[pid] = time.monotonic() + LEASE_S * self._rng.uniform(0.2, 2.5)
                    self.tally.faults["freeze"] += 1
            elif ended:
                self.tally.deaths[os.waitstatus_to_exitcode(status)] += 1
                self._paused.pop(pid, None)
                self._workers[number] = self._worker()

    def _end_all(self) -> None:
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)
        left = set(self._workers)
        while left:
            for pid in tuple(left):
                os.kill(pid, signal.SIGCONT)
                left -= {os.waitpid(pid, os.WNOHANG)[0]}
            time.sleep(0.05)
