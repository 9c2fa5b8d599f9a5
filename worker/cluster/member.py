"""One of several workers on a database: lease, screen, put away; until it is told to stop."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Engine

from worker.aside import Aside
from worker.chores import Chores
from worker.cluster.ingester import Ingester
from worker.cluster.lost import throw_away
from worker.cluster.membership import Membership
from worker.cluster.shelves import SharedShelves
from worker.config import Config
from worker.decoding import Started
from worker.filesystem import HELD_OPEN
from worker.intake.found import INBOX
from worker.intake.inbox import Look
from worker.intake.watch import Watcher
from worker.patience import TROUBLES, until_it_works
from worker.pipeline import Pipeline
from worker.shelves import Shelves
from worker.store.leases import give_back, lease, unfinished
from worker.store.outcomes import Outcome
from worker.store.work import Item, finished_files

log = logging.getLogger(__name__)

_ASK_EVERY_S = 1.0  # whether films wait, while none is in hand
_ASIDE_S = 0.1
_Result = TypeVar("_Result")


class Member:
    """Screens with others. `now` is monotonic seconds; `clock` tells the time of day.

    `check` raises when the site's folders are not those that were marked, or when leases may be
    lost. `beat` is told how the worker does, as `worker.heartbeat.Heartbeat.beat`.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        make_pipeline: Callable[[Shelves], Pipeline],
        of: Membership,
        *,
        check: Callable[[], None],
        beat: Callable[..., None],
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine, self._config, self._of = engine, config, of
        self._check, self._tell = check, beat
        self._shelves = SharedShelves(config.site, engine)
        self._pipeline = make_pipeline(self._shelves)
        self._aside = Aside(self._pipeline, self._committed)
        self._ingester = Ingester(
            engine,
            config,
            of.office,
            Chores(engine, config, check, lambda: self._beat("working"), now, clock),
            holder=of.holder,
            site_mark=of.site_mark,
            check=check,
            alive=lambda: self._beat("working"),
            now=now,
            clock=clock,
        )
        self._in_hand: dict[int, Item] = {}  # leased, and not yet put away
        self._in_trouble = False  # the last turn did not come to its end
        self._stop = threading.Event()
        self._wake = threading.Event()

    def stop(self) -> None:
        """Ask the worker to end after the batch in hand; safe in a signal handler."""
        self._stop.set()
        self._wake.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def has_office(self) -> bool:
        """Whether this worker takes films in, and does the chores of the site."""
        return self._ingester.in_office

    def run(self) -> None:
        """Work until `stop` is called."""
        watch = self._config.watch
        watcher = Watcher(self._config.site.inbox, watch.mode, self._wake)
        log.info("joined the workers of this site", extra={"run": self._of.holder.run_id})
        try:
            while not self._stop.is_set():
                self._until_it_works(self.turn)
                watcher.ensure()
                self._beat("idle")
                if watcher.wait(_ASIDE_S if self._aside else _ASK_EVERY_S):
                    self._ingester.hurry()
            self._until_it_works(self.finish_up)
        finally:
            watcher.stop()

    def drain(self) -> Look:
        """Work until nothing is ready or about to be, whoever takes films in; the last look.

        Films that other workers have in hand are waited for: they may come back.
        """
        while True:
            look = self.turn()
            idle = not unfinished(self._engine, self._of.site_mark)
            if look:
                idle = idle and not (look.ready or look.unsettled)
            if idle or self._stop.is_set():
                self.finish_up()
                return look or Look((), (), (), (), {})
            self._stop.wait(_ASIDE_S)

    def turn(self) -> Look | None:
        """Do all that can be done now. Raises what `worker.patience` knows; nothing is lost then.

        After trouble all that was in hand is given up first: it may be another's by now.
        """
        self._of.keeper.alive()
        if self._in_trouble:
            self._give_up()
        self._in_trouble = True
        look = self._ingester.turn()
        self._screen()
        self._put_away()
        self._ingester.chores(look)
        self._in_trouble = False
        return look

    def finish_up(self) -> None:
        """Leave everything that is committed in its place, and give back the rest."""
        self._beat("stopping")
        self._give_up()
        self._ingester.leave()

    def _give_up(self) -> None:
        """Start afresh: forget what is under way. What ended before is put away."""
        self._aside.abandon()
        self._of.keeper.tick()
        give_back(self._engine, self._of.holder)
        self._check()
        self._put_away()
        self._in_hand = {}
        self._of.seat.note([])

    def _screen(self) -> None:
        """Screen what can be leased; while one batch is written, others are predicted."""
        started: deque[Started] = deque()
        try:
            while True:
                batch = self._lease(started)
                if batch:
                    self._beat("working")
                    started.append(self._pipeline.start(batch))
                elif started:
                    self._aside.finish(started.popleft())
                    self._aside.finish_decoded()
                else:
                    self._aside.finish_decoded()
                    return
                self._ingester.turn_if_due()
        finally:
            for each in started:
                self._pipeline.abandon(each)

    def _lease(self, started: deque[Started]) -> list[Item]:
        """The next batch, if another may be started now; a troubled film goes quite alone."""
        is_full = len(started) >= self._pipeline.batches_under_way
        if self._stop.is_set() or is_full or any(batch.is_troubled for batch in started):
            return []
        items = lease(
            self._engine,
            self._of.holder,
            INBOX,
            limit=self._config.batch.size,
            site_mark=self._of.site_mark,
            alone=not (started or self._aside),
        )
        items = [self._here(item) for item in items]
        self._in_hand |= {item.id: item for item in items}
        self._of.seat.note(list(self._in_hand))
        return items

    def _here(self, item: Item) -> Item:
        """The file lies in our work/, wherever that is mounted."""
        found = item.found
        path = self._config.site.work / found.claim / found.path.name
        return replace(item, found=replace(found, path=path))

    def _committed(self, batch: Started, outcomes: list[Outcome]) -> None:
        done = {outcome.item.id for outcome in outcomes}
        lost = [item for item in batch.items if item.id not in done]
        if lost:
            for item in lost:  # whatever fails below: they are others' films
                self._in_hand.pop(item.id, None)
            throw_away(self._config, self._engine, lost, batch, self._of.holder.model_id)
        self._beat("working", finished=len(outcomes))
        self._put_away(done)

    def _put_away(self, ids: set[int] | None = None) -> None:
        """Move films that ended out of work/: these, or all in hand that did.

        One that somebody holds open waits.
        """
        chosen = self._in_hand.keys() if ids is None else ids & self._in_hand.keys()
        ended = finished_files(self._engine, list(chosen))
        for number, finished in ended.items():
            self._check()
            try:
                self._shelves.put_away(self._in_hand[number], finished)
            except OSError as error:
                if error.errno not in HELD_OPEN:
                    raise
            else:
                del self._in_hand[number]
        self._shelves.given.clear()

    def _beat(self, state: str, *, cause: str | None = None, finished: int = 0) -> None:
        self._of.keeper.alive()
        self._tell(state, cause=cause, finished=finished)

    def _until_it_works(self, step: Callable[[], _Result]) -> _Result | None:
        def paused(cause: str) -> None:
            self._beat("paused", cause=cause)
            self._aside.abandon()
            with suppress(*TROUBLES):
                self._ingester.make_room()

        return until_it_works(step, self._stop, paused)
