"""A worker's time at the films: leased batch by batch, brought to their end, or given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from worker.backfill import screen
from worker.cluster.keeper import Keeper
from worker.cluster.lost import throw_away
from worker.cluster.seat import Seat
from worker.decoding import Started
from worker.pipeline import Pipeline
from worker.spool import spooling
from worker.store.leases import Holder, give_back, lease
from worker.store.outcomes import Outcome
from worker.store.work import Item

if TYPE_CHECKING:
    from worker.on_ray.screening import Bench, Task

_ASK_EVERY_S = 1.0  # whether films wait, while none is in hand


class Stopped(Exception):
    """The driver wants no more."""


class Shift:
    """Leases batch by batch and brings them to their end."""

    def __init__(
        self,
        bench: Bench,
        task: Task,
        seat: Seat,
        holder: Holder,
        keeper: Keeper,
        goes_on: Callable[[float], bool],
        limit: int | None,
    ) -> None:
        self._bench, self._task, self._seat = bench, task, seat
        self._holder, self._keeper, self._goes_on = holder, keeper, goes_on
        self._left = limit
        self._in_hand: dict[int, Item] = {}
        self._in_trouble = False
        self._pipeline = Pipeline(
            bench.engine,
            bench.screener,
            bench.config,
            run_id=task.run_id,
            model_id=task.model_id,
            check=self._check,
            alive=keeper.alive,
            reports=task.reports,
        )

    def screen(self) -> None:
        """Work until told to stop, or until the limit is reached or nothing waits.

        Raises what `worker.patience` knows; called again, it gives up what was in hand first.
        """
        self._keeper.alive()
        if self._in_trouble:
            self._keeper.tick()
            give_back(self._bench.engine, self._holder)
            self._in_hand = {}
            self._check()
        self._in_trouble = True
        with spooling(self._bench.config) as self._spool:
            self._bench.decoders.carried = self._spool.folder
            screen(self._pipeline, self._leased(), self._committed)

    def _check(self) -> None:
        self._bench.check()
        self._keeper.require_lease()

    def _leased(self) -> Iterator[list[Item]]:
        """Batches; an empty one when what is under way is to be finished first."""
        idle = False
        while self._left != 0:
            self._pause(_ASK_EVERY_S if idle and self._left is None else 0)
            self._keeper.alive()
            items = self._lease(alone=idle)
            if idle and not items and self._left is not None:
                return
            idle = not items
            if idle:
                yield []
            for some in self._spool.portions(items):
                yield self._spool.all_ready(some, self._waits)

    def _pause(self, seconds: float) -> None:
        if not self._goes_on(seconds):
            raise Stopped

    def _lease(self, *, alone: bool) -> list[Item]:
        size = self._bench.config.batch.size
        size = size if self._left is None else min(size, self._left)
        for source in self._task.sources:
            items = lease(self._bench.engine, self._holder, source, limit=size, alone=alone)
            if items:
                self._left = self._left and self._left - len(items)
                self._in_hand |= {item.id: item for item in items}
                self._seat.note(list(self._in_hand))
                return items
        return []

    def _waits(self) -> None:
        self._pause(0)
        self._keeper.alive()

    def _committed(self, batch: Started, outcomes: list[Outcome]) -> None:
        self._spool.release(batch.items)
        done = {outcome.item.id for outcome in outcomes}
        lost = [item for item in batch.items if item.id not in done]
        if lost:
            bench = self._bench
            throw_away(bench.config, bench.engine, lost, batch, self._holder.model_id)
        for item in batch.items:
            self._in_hand.pop(item.id, None)
