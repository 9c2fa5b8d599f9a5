"""The daemon: wake, look, claim, batch, screen, put away; until it is told to stop."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Engine

from worker.aside import Aside
from worker.chores import Chores
from worker.config import Config
from worker.decoding import Started
from worker.failed import settle_interrupted
from worker.filesystem import HELD_OPEN
from worker.intake.claims import secure
from worker.intake.found import Found
from worker.intake.inbox import Inbox, Look
from worker.intake.watch import Watcher
from worker.patience import TROUBLES, until_it_works
from worker.pipeline import Pipeline
from worker.recovery import remove_half_written, take_up, tidy
from worker.shelves import Shelves
from worker.store.outcomes import Outcome
from worker.store.work import Item, finished_files, record, release

log = logging.getLogger(__name__)

_LOOKS_PER_SETTLING = 4
_ASIDE_S = 0.1
_Result = TypeVar("_Result")


class Pulse(Protocol):
    """What is told how the worker does; `worker.heartbeat.Heartbeat` is one."""

    def beat(self, state: str, *, cause: str | None = None, finished: int = 0) -> None:
        """The worker is alive, in this state; `finished` files came to an end since the last."""


class Daemon:
    """Works one inbox. `now` is monotonic seconds; `clock` tells the time of day.

    `check` raises when the site's folders are not the ones that were marked.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        make_pipeline: Callable[[Shelves], Pipeline],
        *,
        run_id: int,
        model_id: int,
        check: Callable[[], None],
        pulse: Pulse,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine, self._config = engine, config
        self._run_id, self._model_id = run_id, model_id
        self._check, self._pulse = check, pulse
        self._now, self._clock = now, clock
        self._shelves = Shelves(config.site, engine)
        self._pipeline = make_pipeline(self._shelves)
        self._aside = Aside(self._pipeline, self._committed)
        self._inbox = Inbox(config.site, config.watch)
        self._claimed: list[Found] = []  # renamed into work/, not yet recorded
        self._queue: deque[Item] = deque()  # recorded, not yet screened
        self._finished: deque[Item] = deque()  # committed, not yet put away
        self._oldest = 0.0
        self._in_trouble = False  # the last turn did not come to its end
        self._chores = Chores(engine, config, check, lambda: pulse.beat("working"), now, clock)
        self._stop = threading.Event()
        self._wake = threading.Event()

    def stop(self) -> None:
        """Ask the daemon to end after the batch in hand; safe in a signal handler."""
        self._stop.set()
        self._wake.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def run(self) -> None:
        """Watch until `stop` is called."""
        watch = self._config.watch
        watcher = Watcher(self._config.site.inbox, watch.mode, self._wake)
        log.info("watching the inbox", extra={"kind": watcher.kind, "run": self._run_id})
        try:
            self._until_it_works(self.recover)
            while not self._stop.is_set():
                look = self._until_it_works(self.turn)
                watcher.ensure()
                if look and not look.unsettled:
                    self._prune()
                self._pulse.beat("idle")
                watcher.wait(self._pause_s(look))
            self._until_it_works(self.finish_up)
        finally:
            watcher.stop()

    def drain(self) -> Look:
        """Work the inbox until nothing in it is ready or about to be; return the last look."""
        self.recover()
        while True:
            look = self.turn()
            idle = not (look.ready or look.unsettled or self._queue)
            if idle or self._stop.is_set():
                self.finish_up()
                return look
            self._stop.wait(max(self._inbox.settle_s / _LOOKS_PER_SETTLING, self._aside_s(0.0)))

    def recover(self) -> None:
        """Take up what an earlier worker left: waiting files, claims, moves and pages."""
        self._pulse.beat("starting")
        self._take_up()
        settle_interrupted(self._config.site, self._engine, self._clock())
        tidy(
            self._config.site,
            self._engine,
            lambda: self._pulse.beat("starting"),
            identity=self._config.dicom.identity,
        )
        self._chores.pages_mended()

    def _take_up(self) -> None:
        self._aside.abandon()
        self._check()
        release(self._engine, self._run_id)
        taken = take_up(self._config.site, self._engine)
        self._claimed = taken.claimed
        self._queue, self._finished = deque(taken.waiting), deque(taken.finished)
        self._oldest = self._now()
        self._chores.results_changed()

    def turn(self) -> Look:
        """Do all that can be done now. Raises what `worker.patience` knows; nothing is lost then.

        After trouble what is in hand comes first, and only then new films: intake has paused. What
        that is, work/ and the database say: a refused call may have done its work all the same.
        """
        self._check()
        if self._in_trouble:
            self._take_up()
            remove_half_written(self._config.site)
        self._put_away()
        if self._in_trouble:
            self._record()
            self._screen(deque())
        self._in_trouble = True
        look = self._inbox.look(self._now())
        ready = deque(look.ready)
        self._claim(ready)
        self._aside.finish_decoded()
        if self._is_due(look):
            self._screen(ready)
        if look.unsettled:
            self._chores.write_old_worklist()
        else:
            self._chores.write_worklist()
        self._in_trouble = False
        return look

    def _claim(self, ready: deque[Path]) -> list[Item]:
        """Claim and record as many ready files as a batch has; return them.

        A full inbox is claimed while it is screened: the decoders would wait for all of it.
        """
        for _ in range(min(len(ready), self._config.batch.size)):
            found = self._inbox.claim(ready.popleft())
            if found:
                self._claimed.append(found)
        return self._record()

    def _record(self) -> list[Item]:
        if not self._claimed:
            return []
        if not self._queue:
            self._oldest = self._now()
        secure(self._config.site, self._claimed)
        items = record(self._engine, self._claimed, self._run_id, self._model_id, self._clock())
        self._claimed = []
        self._queue.extend(items)
        return items

    def _is_due(self, look: Look) -> bool:
        """A batch goes when it is full, when its oldest film has waited, or no film is coming."""
        ahead = self._ahead()
        full = len(ahead) >= self._config.batch.size
        aged = self._now() - self._oldest >= self._config.batch.max_age_s
        return bool(ahead) and (full or aged or not look.unsettled)

    def _ahead(self) -> list[Item]:
        """The queue without what is under way already, set aside."""
        aside = self._aside.ids
        return [item for item in self._queue if item.id not in aside]

    def _screen(self, ready: deque[Path]) -> None:
        """Screen the queue and what is ready; while one batch is written, others are predicted."""
        started: deque[Started] = deque()
        ahead = self._ahead()
        self._pulse.beat("working")
        try:
            while (ahead or ready or started) and not (self._stop.is_set() and not started):
                if ready and len(ahead) < self._config.batch.size and not self._stop.is_set():
                    ahead += self._claim(ready)
                    continue
                if self._may_start(ahead, started):
                    started.append(self._pipeline.start(self._next_batch(ahead)))
                    continue
                self._aside.finish(started.popleft())
                self._aside.finish_decoded()
        finally:
            for batch in started:
                self._pipeline.abandon(batch)

    def _may_start(self, ahead: list[Item], started: deque[Started]) -> bool:
        """Whether another batch may be started now; a troubled film goes quite alone."""
        if not ahead or self._stop.is_set():
            return False
        troubled = ahead[0].worker_deaths or any(batch.is_troubled for batch in started)
        if troubled and not started:
            self._aside.finish_all()
        return len(started) < (1 if troubled else self._pipeline.batches_under_way)

    def _next_batch(self, ahead: list[Item]) -> list[Item]:
        """Take the next films; one that was in hand when a worker died goes alone."""
        count = 1
        if not ahead[0].worker_deaths:
            limit = min(self._config.batch.size, len(ahead))
            troubled = (i for i in range(limit) if ahead[i].worker_deaths)
            count = next(troubled, limit)
        batch = ahead[:count]
        del ahead[:count]
        return batch

    def _committed(self, batch: Started, _outcomes: list[Outcome]) -> None:
        done = {item.id for item in batch.items}
        self._queue = deque(item for item in self._queue if item.id not in done)
        self._finished.extend(batch.items)
        self._chores.results_changed()
        self._pulse.beat("working", finished=len(batch.items))
        self._put_away()
        self._chores.write_old_worklist()

    def _put_away(self) -> None:
        """Move finished files out of work/; one that somebody holds open waits."""
        held = []
        finished = finished_files(self._engine, [item.id for item in self._finished])
        while self._finished:
            item = self._finished[0]
            self._check()
            try:
                if item.id in finished:
                    self._shelves.put_away(item, finished[item.id])
            except OSError as error:
                if error.errno not in HELD_OPEN:
                    raise
                held.append(item)
            self._finished.popleft()
        self._finished.extend(held)
        self._shelves.given.clear()

    def finish_up(self) -> None:
        """Leave everything that is committed in its place, and the worklist true."""
        self._pulse.beat("stopping")
        self._aside.abandon()
        self._put_away()
        self._chores.settle_pages()
        self._chores.write_worklist()

    def _aside_s(self, otherwise_s: float) -> float:
        """How long to wait when something is set aside: it may be decoded soon."""
        return _ASIDE_S if self._aside else otherwise_s

    def _pause_s(self, look: Look | None) -> float:
        interval = self._aside_s(self._config.watch.scan_interval_s)
        if look is None or not look.unsettled:
            return interval
        return min(interval, max(0.05, self._inbox.settle_s / _LOOKS_PER_SETTLING))

    def _prune(self) -> None:
        with suppress(*TROUBLES):  # the next turn meets it too, and pauses
            self._chores.prune()

    def _until_it_works(self, step: Callable[[], _Result]) -> _Result | None:
        def paused(cause: str) -> None:
            self._pulse.beat("paused", cause=cause)
            self._prune()  # a full disk may be one that retention empties

        return until_it_works(step, self._stop, paused)
