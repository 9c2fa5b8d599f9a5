"""The daemon: wake, look, claim, batch, screen, put away; until it is told to stop."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Config
from worker.errors import DecoderUnavailable, StoreError
from worker.filesystem import remove_temporary
from worker.folders import display_name
from worker.intake.found import INBOX, Found
from worker.intake.inbox import Inbox, Look
from worker.intake.names import is_temporary
from worker.intake.shelf import (
    SIDECAR_SUFFIX,
    free_name,
    put_away,
    remove_claim,
    write_sidecar,
)
from worker.intake.watch import Watcher
from worker.pipeline import Pipeline, Started
from worker.report.site import broken_pages, render_again, report_folders, write_worklist
from worker.store.work import (
    Finished,
    Item,
    begin_recovery,
    claimed_file,
    finished_file,
    record,
    rename_finished,
    waiting_files,
)

log = logging.getLogger(__name__)

_WORKLIST_EVERY_S = 5.0  # while films keep coming
_WORKLIST_SHARE = 0.1  # of the time, at the most, goes into writing it
_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # between attempts while disk, share or database refuse
_LOOKS_PER_SETTLING = 4


@dataclass(frozen=True)
class Shelves:
    """Final names for claimed files; within a batch no name is given out twice."""

    config: Config
    given: set[Path] = field(default_factory=set)

    def name_for(self, item: Item, failed: bool) -> str:
        """A free name in done/ or failed/."""
        folder = self.config.site.failed if failed else self.config.site.done
        taken = {path.name for path in self.given if path.parent == folder}
        name = free_name(folder, item.found.path.name, item.id, taken)
        self.given.update((folder / name, folder / (name + SIDECAR_SUFFIX)))
        return name


class Daemon:
    """Works one inbox. `now` is monotonic seconds; `clock` tells the time of day."""

    def __init__(
        self,
        engine: Engine,
        config: Config,
        make_pipeline: Callable[[Shelves], Pipeline],
        *,
        run_id: int,
        model_id: int,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine, self._config = engine, config
        self._run_id, self._model_id = run_id, model_id
        self._now, self._clock = now, clock
        self._shelves = Shelves(config)
        self._pipeline = make_pipeline(self._shelves)
        self._inbox = Inbox(config.site, config.watch)
        self._claimed: list[Found] = []  # renamed into work/, not yet recorded
        self._queue: deque[Item] = deque()  # recorded, not yet screened
        self._finished: deque[Item] = deque()  # committed, not yet put away
        self._oldest = 0.0
        self._worklist_at = float("-inf")
        self._worklist_every_s = _WORKLIST_EVERY_S
        self._worklist_due = True
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
        log.info("watching the inbox, %s events, run %d", watcher.kind, self._run_id)
        try:
            self._until_it_works(self.recover)
            while not self._stop.is_set():
                look = self._until_it_works(self.turn)
                watcher.ensure()
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
            self._stop.wait(self._inbox.settle_s / _LOOKS_PER_SETTLING)

    def recover(self) -> None:
        """Take up what an earlier worker left: waiting files, claims, moves and pages."""
        died = begin_recovery(self._engine)
        if died:
            log.warning("the worker before died with %d files in hand: they are tried again", died)
        waiting = {item.found.claim: item for item in waiting_files(self._engine, INBOX)}
        self._finished = deque()
        self._claimed = []
        for folder in sorted(path for path in self._config.site.work.iterdir() if path.is_dir()):
            self._take_up(folder, waiting)
        self._queue = deque(waiting.values())
        for folder in [*report_folders(self._config.site), self._config.site.failed]:
            remove_temporary(folder)
        broken = broken_pages(self._config.site, self._engine)
        without = render_again(self._config.site, self._engine, broken)
        if broken:
            log.warning("rendered %d pages again, %d lack their picture", len(broken), len(without))
        self._oldest = self._now()
        self._worklist_due = True

    def _take_up(self, folder: Path, waiting: dict[str, Item]) -> None:
        """One folder of work/: empty, claimed but not recorded, waiting, or only to be moved.

        The file counts where it lies now: the site may have been moved since it was recorded.
        """
        item = claimed_file(self._engine, folder.name)
        known = folder / item.found.path.name if item else None
        files = [path for path in folder.iterdir() if path == known or not is_temporary(path.name)]
        if not files:
            remove_claim(folder)
            return
        path = known if known in files else files[0]
        if item is None:
            status = path.stat(follow_symlinks=False)
            name = display_name(Path(path.name))
            size, mtime_ns = status.st_size, status.st_mtime_ns
            self._claimed.append(Found(INBOX, name, path, size, mtime_ns, folder.name))
            return
        here = replace(item, found=replace(item.found, path=path))
        if folder.name in waiting:
            waiting[folder.name] = here
        elif finished_file(self._engine, item.id):
            self._finished.append(here)

    def turn(self) -> Look:
        """Do all that can be done now. Raises OSError or StoreError; nothing is lost then."""
        self._put_away()
        look = self._inbox.look(self._now())
        for path in look.ready:
            found = self._inbox.claim(path)
            if found:
                self._claimed.append(found)
        self._record()
        if self._is_due(look):
            self._screen()
        if not look.unsettled or self._worklist_is_old():
            self._write_worklist()
        return look

    def _worklist_is_old(self) -> bool:
        return self._now() - self._worklist_at >= self._worklist_every_s

    def _record(self) -> None:
        if not self._claimed:
            return
        if not self._queue:
            self._oldest = self._now()
        items = record(self._engine, self._claimed, self._run_id, self._model_id, self._clock())
        self._claimed = []
        self._queue.extend(items)

    def _is_due(self, look: Look) -> bool:
        """A batch goes when it is full, when its oldest film has waited, or no film is coming."""
        full = len(self._queue) >= self._config.batch.size
        aged = self._now() - self._oldest >= self._config.batch.max_age_s
        return bool(self._queue) and (full or aged or not look.unsettled)

    def _screen(self) -> None:
        """Screen the queue; the next batch is being decoded while one is predicted."""
        started: deque[tuple[list[Item], Started]] = deque()
        ahead = list(self._queue)
        try:
            while (ahead or started) and not (self._stop.is_set() and not started):
                if self._may_start(ahead, [items for items, _ in started]):
                    items = self._next_batch(ahead)
                    started.append((items, self._pipeline.start(items)))
                    continue
                items, batch = started.popleft()
                self._pipeline.finish(batch)
                self._committed(items)
        finally:
            for _, batch in started:
                self._pipeline.abandon(batch)

    def _may_start(self, ahead: list[Item], in_hand: list[list[Item]]) -> bool:
        """Whether another batch may be decoded now: two at a time, a troubled film quite alone."""
        if not ahead or self._stop.is_set():
            return False
        troubled = ahead[0].worker_deaths or any(items[0].worker_deaths for items in in_hand)
        return len(in_hand) < (1 if troubled else 2)

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

    def _committed(self, items: list[Item]) -> None:
        done = {item.id for item in items}
        self._queue = deque(item for item in self._queue if item.id not in done)
        self._finished.extend(items)
        self._worklist_due = True
        self._put_away()
        if self._worklist_is_old():
            self._write_worklist()

    def _put_away(self) -> None:
        """Move finished files out of work/, each failed one after its sidecar."""
        while self._finished:
            item = self._finished[0]
            finished = finished_file(self._engine, item.id)
            if finished:
                self._move(item, finished)
            self._finished.popleft()
        self._shelves.given.clear()

    def _move(self, item: Item, finished: Finished) -> None:
        site = self._config.site
        folder = site.failed if finished.failure else site.done
        name = finished.final_name
        if os.path.lexists(folder / name) and item.found.path.exists():
            name = free_name(folder, item.found.path.name, item.id, ())  # taken since it was chosen
            rename_finished(self._engine, item.id, name)
        if finished.failure:
            write_sidecar(site, name, finished.failure)
        put_away(item.found.path, folder / name)

    def _write_worklist(self) -> None:
        if self._worklist_due:
            before = self._now()
            write_worklist(self._config.site, self._engine, self._clock())
            self._worklist_due = False
            self._worklist_at = self._now()
            took_s = self._worklist_at - before
            self._worklist_every_s = max(_WORKLIST_EVERY_S, took_s / _WORKLIST_SHARE)

    def finish_up(self) -> None:
        """Leave everything that is committed in its place, and the worklist true."""
        self._put_away()
        self._write_worklist()

    def _pause_s(self, look: Look | None) -> float:
        interval = self._config.watch.scan_interval_s
        if look is None or not look.unsettled:
            return interval
        return min(interval, max(0.05, self._inbox.settle_s / _LOOKS_PER_SETTLING))

    def _until_it_works(self, step: Callable[[], Look | None]) -> Look | None:
        """Do a step again until disk, share and database let it pass, or we are stopped.

        No film is blamed: what the step had not committed is done again.
        """
        attempt = 0
        while True:
            try:
                return step()
            except (OSError, StoreError, DecoderUnavailable) as error:
                pause_s = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
                log.error("intake paused, trying again in %g s: %s", pause_s, _cause(error))
                attempt += 1
                if self._stop.wait(pause_s):
                    return None


def _cause(error: OSError | StoreError | DecoderUnavailable) -> str:
    """What refused, without names of files."""
    return os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
