"""Keep leases while films are decoded and predicted: a thread beside the worker's own."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import Engine

from worker.errors import LeaseLost, StoreError
from worker.heartbeat import HANGS_AFTER_S
from worker.store.leases import Holder, leased_of, renew, take_back

log = logging.getLogger(__name__)

_TICKS_PER_LEASE = 3
_LOOK_EVERY_S = 1.0


def since_boot() -> float:
    """Seconds since the host started, those included in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Keeper:
    """Renews what the worker holds, and takes back what others held and lost.

    `now` is monotonic seconds, which go on while the process is stopped or the host sleeps. A
    worker that hangs, as `alive` was not called for long, keeps nothing: its films go to others.
    """

    def __init__(
        self, engine: Engine, holder: Holder, now: Callable[[], float] = since_boot
    ) -> None:
        self._engine, self._holder, self._now = engine, holder, now
        self._alive_at = self._renewed_at = now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._in_trouble = False

    def __enter__(self) -> Self:
        """Begin to keep."""
        self.tick()
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End the thread; a connection that hangs does not hold up the end."""
        self._stop.set()
        self._thread.join(self._holder.lease_s)

    def alive(self) -> None:
        """The worker goes on: to be called whenever it does."""
        self._alive_at = self._now()

    def require_lease(self) -> None:
        """Raise LeaseLost when what the worker holds may be another's by now."""
        silent_s = self._now() - self._renewed_at
        if silent_s > self._holder.lease_s:
            raise LeaseLost(
                f"the database was not reached for {silent_s:.0f} s: what was in hand is given up, "
                "others may have it by now; no film is lost"
            )

    def tick(self) -> None:
        """Renew once, and take back what has run out."""
        before = self._now()
        if before - self._alive_at < HANGS_AFTER_S:
            renew(self._engine, self._holder)
            self._renewed_at = before
        if taken := take_back(self._engine):
            log.warning("films of workers that are silent wait again", extra={"count": taken})

    def _run(self) -> None:
        pause_s = self._holder.lease_s / _TICKS_PER_LEASE
        while not self._stop.wait(min(pause_s, 1.0) if self._in_trouble else pause_s):
            try:
                self.tick()
                self._in_trouble = False
            except StoreError:
                if not self._in_trouble:
                    log.warning("leases cannot be renewed: the database does not answer")
                self._in_trouble = True


def await_the_dead(
    engine: Engine,
    sources: Sequence[str],
    model_id: int,
    lease_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Take back what dead workers hold of some archives; how many files living ones still hold.

    For a backfill beside which no worker watches: nobody else does it. The dead cannot renew, so
    after `lease_s` whoever still holds something lives.
    """
    for look in range(math.ceil(lease_s / _LOOK_EVERY_S) + 1):
        if look:
            pause(_LOOK_EVERY_S)
        if taken := take_back(engine):
            log.warning("films of workers that are silent wait again", extra={"count": taken})
        held = leased_of(engine, sources, model_id)
        if not held:
            break
        if not look:
            log.warning("waiting for the leases of silent workers", extra={"count": held})
    return held
