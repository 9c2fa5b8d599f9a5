"""Take films in for all workers of a site, and do its chores, while this worker has the office."""

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from worker.chores import Chores
from worker.cluster.shelves import SharedShelves
from worker.cluster.sweep import Sweep
from worker.config import Config
from worker.failed import settle_interrupted
from worker.intake.claims import secure
from worker.intake.found import Found
from worker.intake.inbox import Inbox, Look
from worker.recovery import mend_pages
from worker.store.leases import Holder, waiting
from worker.store.lists import changes_counted
from worker.store.office import Office
from worker.store.work import claimed_files, record

log = logging.getLogger(__name__)

_LOOKS_PER_SETTLING = 4
_SWEEPS_PER_LEASE = 3
_AGAIN_S = 1.0
_AHEAD = 8  # batches that are recorded and wait for a worker; more stay in the inbox


class Ingester:
    """The inbox of one site. `now` is monotonic seconds; `clock` tells the time of day.

    `check` raises when the site's folders are not those that were marked.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        office: Office,
        chores: Chores,
        *,
        holder: Holder,
        site_mark: str,
        check: Callable[[], None],
        alive: Callable[[], None],
        now: Callable[[], float],
        clock: Callable[[], datetime],
    ) -> None:
        self._engine, self._config, self._office, self._chores = engine, config, office, chores
        self._holder, self._mark = holder, site_mark
        self._check, self._alive, self._now, self._clock = check, alive, now, clock
        self._claimed: list[Found] = []  # renamed into work/, not yet recorded
        self.in_office = False
        self._due_at = self._sweep_at = float("-inf")
        self._changes = -1
        self._look: Look | None = None

    def hurry(self) -> None:
        """Something happened in the inbox: look at the next turn."""
        self._due_at = float("-inf")

    def turn(self) -> Look | None:
        """Take in what is ready, when it is time to look; the last look.

        `None` while another worker has the office. Raises OSError or StoreError; nothing is lost
        then.
        """
        if self.in_office and self._now() < self._due_at:
            return self._look
        self._look = None
        self._record()
        if not self._office.held():
            self.in_office = False
            return None
        if not self.in_office:
            self._enter()
        self._check()
        if self._now() >= self._sweep_at:
            self._sweep_at = self._now() + self._holder.lease_s / _SWEEPS_PER_LEASE
            self._claimed += self._sweep.claims()
            self._sweep.temporary()
            self._record()
        look = self._inbox.look(self._now())
        self._claim(deque(look.ready))
        self._notice_results()
        self._due_at = self._now() + self._pause_s(look)
        self._look = look
        return look

    def turn_if_due(self) -> None:
        """`turn`, between batches, as often as the inbox is to be looked at."""
        if self.in_office and self._now() >= self._due_at:
            look = self.turn()
            if look:
                self._chores.write_old_worklist()

    def chores(self, look: Look | None) -> None:
        """What is to be done when this worker has nothing else to do."""
        if look is None:
            return
        if look.unsettled:
            self._chores.write_old_worklist()
        else:
            self._chores.write_worklist()
            self._chores.prune()

    def make_room(self) -> None:
        """Let retention look: a full disk may be one that it empties."""
        if self.in_office:
            self._chores.prune()

    def leave(self) -> None:
        """Leave the office, and the site as it should be."""
        if self.in_office and self._office.held():
            self._chores.settle_pages()
            self._notice_results()
            self._chores.write_worklist()
        self.in_office = False
        self._office.give_up()

    def _enter(self) -> None:
        """Begin anew: what an earlier ingester saw of the inbox and of the site, we did not."""
        site = self._config.site
        log.info("this worker takes films in", extra={"run": self._holder.run_id})
        self._inbox = Inbox(site, self._config.watch)
        shelves = SharedShelves(site, self._engine)
        self._sweep = Sweep(self._engine, site, shelves, self._holder.lease_s, self._now)
        self._check()
        settle_interrupted(site, self._engine, self._clock())
        mend_pages(site, self._engine, self._alive, identity=self._config.dicom.identity)
        self._chores.pages_mended()
        self.in_office = True

    def _claim(self, ready: deque[Path]) -> None:
        """Claim ready files, batch by batch, as long as workers would run out of them."""
        size = self._config.batch.size
        while ready and waiting(self._engine, self._mark, _AHEAD * size) < _AHEAD * size:
            if not self._office.held():  # before each batch: another may have been elected
                return
            for _ in range(min(len(ready), size)):
                found = self._inbox.claim(ready.popleft())
                if found:
                    self._claimed.append(found)
            self._record()
            self._alive()

    def _record(self) -> None:
        if not self._claimed:
            return
        known = claimed_files(self._engine, [found.claim for found in self._claimed])
        new = [each for each in self._claimed if each.claim not in known and each.path.exists()]
        secure(self._config.site, new)
        ids = (self._holder.run_id, self._holder.model_id)
        record(self._engine, new, *ids, self._clock(), site_mark=self._mark)
        self._claimed = []

    def _notice_results(self) -> None:
        """The worklist is due when any worker changed what stands there."""
        changes = changes_counted(self._engine)
        if changes != self._changes:
            self._changes = changes
            self._chores.results_changed()

    def _pause_s(self, look: Look) -> float:
        interval = self._config.watch.scan_interval_s
        if look.ready:  # there may be more, or more than workers could take
            return min(interval, _AGAIN_S)
        if look.unsettled:
            return min(interval, max(0.05, self._inbox.settle_s / _LOOKS_PER_SETTLING))
        return interval
