"""What the daemon does beside screening: the worklist, now and then; retention, hourly."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from worker.config import Config
from worker.report.site import RESULT_PAGES, pages_due, settle_pages, write_worklist
from worker.retention import prune

_WORKLIST_EVERY_S = 5.0  # while films keep coming
_WORKLIST_SHARE = 0.1  # of the time, at the most, goes into writing it
_PRUNE_EVERY_S = 3600.0


class Chores:
    """Remembers when each was done last. `now` is monotonic seconds; `clock` the time of day.

    `check` raises when the site's folders are not the ones that were marked. `alive` is called
    while the disk takes its time.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        check: Callable[[], None],
        alive: Callable[[], None],
        now: Callable[[], float],
        clock: Callable[[], datetime],
    ) -> None:
        self._engine, self._config, self._check = engine, config, check
        self._alive = alive
        self._now, self._clock = now, clock
        self._worklist_at = float("-inf")
        self._worklist_every_s = _WORKLIST_EVERY_S
        self._worklist_due = True
        self._prune_at = float("-inf")
        self._pages_are_whole = False

    def pages_mended(self) -> None:
        """Every page is whole from now on: those that a dead worker had left were rendered."""
        self._pages_are_whole = True

    def settle_pages(self) -> None:
        """Sync pages that were written to the disk: the next start need not read them."""
        if self._pages_are_whole:
            settle_pages(self._config.site, self._engine, self._alive)

    def results_changed(self) -> None:
        """The worklist is not true any more."""
        self._worklist_due = True

    def write_old_worklist(self) -> None:
        """Write the worklist if it is some seconds old; films keep coming."""
        if self._now() - self._worklist_at >= self._worklist_every_s:
            self.write_worklist()

    def write_worklist(self) -> None:
        """Write the worklist if results changed since."""
        if self._worklist_due:
            before = self._now()
            write_worklist(self._config.site, self._engine, self._clock(), at_most=RESULT_PAGES)
            self._worklist_due = pages_due(self._config.site, self._engine)
            self._worklist_at = self._now()
            took_s = self._worklist_at - before
            self._worklist_every_s = max(_WORKLIST_EVERY_S, took_s / _WORKLIST_SHARE)

    def prune(self) -> None:
        """Let retention look, hourly; at once again as long as it finds something."""
        if self._now() < self._prune_at:
            return
        self._prune_at = self._now() + _PRUNE_EVERY_S
        self._check()
        self.settle_pages()
        if prune(self._config, self._engine, self._clock()).anything:
            self._prune_at, self._worklist_due = self._now(), True
