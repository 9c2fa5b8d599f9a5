"""A batch while it is being decoded: each content once, strikes counted, laggards set aside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from worker.errors import ChangedFile, FilmError, Quarantined
from worker.records import Examined, PreparedFilm
from worker.store.work import Item, add_strike

if TYPE_CHECKING:  # torch is for whoever makes the screener
    from worker.screening import Screener

log = logging.getLogger(__name__)

_ALIVE_EVERY_S = 1.0  # while decoders are waited for
_LAGS_AFTER = 5  # of these waits in which no film of the batch came


@dataclass
class Started:
    """A batch under way: its items by content, and what is being decoded."""

    items: list[Item]
    contents: dict[int, str] = field(default_factory=dict)  # item id → SHA-256
    errors: dict[int, FilmError] = field(default_factory=dict)  # item id → why it failed
    known: set[str] = field(default_factory=set)  # contents screened before
    decoding: dict[str, tuple[Item, Future[Examined]]] = field(default_factory=dict)

    def of_content(self, sha256: str) -> list[int]:
        """Ids of the items that have this content."""
        return [item.id for item in self.items if self.contents.get(item.id) == sha256]

    @property
    def is_troubled(self) -> bool:
        """Whether a worker died with its first film in hand: such a film goes alone."""
        return bool(self.items and self.items[0].worker_deaths)

    @property
    def is_decoded(self) -> bool:
        """Whether every decoder has come to its end."""
        return all(future.done() for _, future in self.decoding.values())

    def split_off(self, contents: set[str]) -> Started | None:
        """Take the items of these contents out, as a batch of their own; `None` for none."""
        if not contents:
            return None
        items = [item for item in self.items if self.contents.get(item.id) in contents]
        self.items = [item for item in self.items if self.contents.get(item.id) not in contents]
        return Started(
            items,
            {item.id: self.contents.pop(item.id) for item in items},
            decoding={sha256: self.decoding.pop(sha256) for sha256 in contents},
        )


class Decoding:
    """Decodes batches. `alive` is called while decoders are waited for.

    An examined film's future is running while the film is predicted.
    """

    def __init__(
        self, engine: Engine, screener: Screener, strikes: int, alive: Callable[[], None]
    ) -> None:
        self._engine, self._screener = engine, screener
        self._strikes, self._alive = strikes, alive

    def begin(self, batch: Started, skip: set[str]) -> None:
        """Begin to decode each content once, unless it is known or to be skipped."""
        for item in batch.items:
            sha256 = None if item.id in batch.errors else batch.contents.get(item.id)
            if sha256 and not (sha256 in batch.known or sha256 in batch.decoding or sha256 in skip):
                batch.decoding[sha256] = (item, self._screener.examine(item.found.path))

    def gather(
        self, batch: Started, *, patient: bool
    ) -> tuple[dict[str, Examined], Started | None]:
        """Films by content, and a batch of what keeps others waiting, unless we are patient.

        What could not be decoded goes to the batch's errors. A film whose decoder lags behind the
        others', or was taken down and is tried again, keeps others waiting.
        """
        films: dict[str, Examined] = {}
        waiting, late, idle = set(batch.decoding), set[str](), 0
        while waiting and (patient or idle < _LAGS_AFTER):
            futures = {batch.decoding[sha256][1] for sha256 in waiting}
            done = wait(futures, _ALIVE_EVERY_S, FIRST_COMPLETED).done
            predicting = [future.running() for future in futures - done]
            if done or not all(predicting):  # a device that hangs must not seem alive
                self._alive()
            idle = 0 if done or any(predicting) else idle + 1
            for sha256 in [each for each in waiting if batch.decoding[each][1] in done]:
                if self._take(batch, sha256, films):
                    waiting.remove(sha256)
                elif not patient:
                    waiting.remove(sha256)
                    late.add(sha256)
        in_order = {sha256: films[sha256] for sha256 in batch.decoding if sha256 in films}
        return in_order, batch.split_off(waiting | late)

    def _take(self, batch: Started, sha256: str, films: dict[str, Examined]) -> bool:
        """Take what a decoder has brought; false if the film is being tried again."""
        item, future = batch.decoding[sha256]
        try:
            examined = future.result()
            require_unchanged(examined.film, sha256)
            films[sha256] = examined
            return True
        except FilmError as error:
            if error.is_strike:
                item = self._strike(item, error)
                if item.strikes < self._strikes:
                    batch.decoding[sha256] = (item, self._screener.examine(item.found.path))
                    return False
                last = Quarantined(f"after {item.strikes} strikes: {error}")
                last.__cause__, error = error, last
            batch.errors |= dict.fromkeys(batch.of_content(sha256), error)
            return True

    def _strike(self, item: Item, error: FilmError) -> Item:
        item = add_strike(self._engine, item)
        log.warning(
            "a film took its decoder down",
            extra={"file": item.id, "slug": error.slug, "strikes": item.strikes},
        )
        return item


def require_unchanged(film: PreparedFilm, sha256: str) -> None:
    """Raise ChangedFile for a film that was not decoded from the bytes that were hashed."""
    if film.sha256 != sha256:
        raise ChangedFile("the file changed while it was read: feed it in again when it is whole")
