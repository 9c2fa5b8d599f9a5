"""List archives into the database, in a thread, ahead of the screening.

What is screened is read back from the database, piece by piece: neither waits for the end of the
other, and neither holds an archive in memory. A list that was cut off goes on where it stopped. One
that is whole serves until all on it is finished; then, or when asked, the archive is listed anew,
and new and changed files are found.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Literal

from sqlalchemy import Engine

from worker.intake.archive import Archive, Ground
from worker.intake.found import Found
from worker.store.archives import (
    Listing,
    begin_listing,
    end_listing,
    listing,
    places_answered,
    record_listed,
    try_again,
    waiting_after,
    waiting_count,
)

_LOOKED_AT = 100  # films that wait, and as many that were answered, before a list is gone on with
_ROWS = 1000  # recorded in one transaction
_FAR_AHEAD = 20_000  # files; beyond them the database is rather left to the screening
_ENDS_WITHIN_S = 5.0  # a folder that is being listed then: no more is recorded afterwards
_RESTS = (1.0, 9.0)  # per time spent recording: near, and far ahead


class Lister:
    """Lists archives in their order. Start it by `with`; leaving it ends the thread.

    `on_error` gets what could not be listed; such an archive is listed anew the next time.
    `on_resume` is told of lists that were whole and serve again. Both are called by the thread.
    """

    def __init__(
        self,
        engine: Engine,
        archives: Sequence[Archive],
        *,
        run_id: int,
        model_id: int,
        rescan: bool,
        on_error: Callable[[OSError], None],
        on_resume: Callable[[Listing], None],
    ) -> None:
        self._engine, self._archives = engine, archives
        self._ground = Ground(archives)
        self._on_error, self._on_resume = on_error, on_resume
        self._run_id, self._model_id, self._rescan = run_id, model_id, rescan
        self._thread = threading.Thread(target=self._run, name="lister", daemon=True)
        self._stop, self._news = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._opened = self._listed = 0  # archives
        self.files = 0  # on the lists so far
        self.passed = 0  # of these, finished before
        self.taken = 0  # of these, given out to be screened; the reader counts them

    def __enter__(self) -> "Lister":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_ENDS_WITHIN_S)

    def state(self, number: int) -> Literal["to come", "begun", "whole"]:
        """How far the list of this archive is. Raises what ended the thread."""
        self._news.clear()
        if self._error:
            raise self._error
        if number < self._listed:
            return "whole"
        return "begun" if number < self._opened else "to come"

    def wait(self) -> None:
        """Wait until something has changed since `state` was asked for."""
        self._news.wait()

    def _run(self) -> None:
        try:
            for archive in self._archives:
                self._list(archive)
                self._listed += 1
                self._news.set()
        except BaseException as error:
            self._error = error
        finally:
            self._news.set()

    def _list(self, archive: Archive) -> None:
        """Open an archive's list; walk on, or from the beginning, where that is needed."""
        mine = (self._engine, archive.source, self._model_id)
        known, waiting = listing(*mine), waiting_count(*mine)
        serves = known is not None and known.listed_at is not None and waiting > 0
        if waiting and not self._rescan:
            self._require_films(archive.source)
        if self._stop.is_set():
            return
        waiting += try_again(*mine)  # before any is read: numbers are read once, upwards
        if waiting or (known and known.files and not known.listed_at):
            self._ground.require(archive.source)  # an empty walk would end the list
        if self._stop.is_set():
            return
        if known is None or self._rescan or (known.listed_at and not serves):
            known = begin_listing(*mine, _now())
        self.files += known.files
        self.passed += max(0, known.files - waiting)
        self._opened += 1
        self._news.set()
        if known.listed_at:
            self._on_resume(known)
        else:
            self._walk(archive, known)

    def _require_films(self, source: str) -> None:
        """Look whether this is the archive of which films wait, before they are called lost."""
        self._ground.require(source)
        mine = (self._engine, source, self._model_id)
        waiting = [item.found.path for item in waiting_after(*mine, 0, _LOOKED_AT)]
        self._ground.require_films(source, waiting + places_answered(*mine, _LOOKED_AT))

    def _walk(self, archive: Archive, known: Listing) -> None:
        errors: list[OSError] = []

        def note(error: OSError) -> None:
            errors.append(error)
            if not self._stop.is_set():
                self._on_error(error)

        files = archive.files(note, known.listed_to)
        for found in _pieces(takewhile(lambda _: not self._stop.is_set(), files)):
            if self._stop.is_set():
                return
            self._record(known, found, gap=bool(errors))
        if self._stop.is_set():  # or the walk would seem to have come to its end
            return
        if errors:  # it goes on at the beginning, the next time
            begin_listing(self._engine, archive.source, self._model_id, _now())
        else:
            end_listing(self._engine, known.id, _now())

    def _record(self, known: Listing, found: Sequence[Found], *, gap: bool) -> None:
        start = time.monotonic()
        self.passed += record_listed(
            self._engine,
            known.id,
            found,
            run_id=self._run_id,
            model_id=self._model_id,
            now=_now(),
            gap=gap,
        )
        self.files += len(found)
        self._news.set()
        ahead = self.files - self.passed - self.taken
        if ahead > 0:
            rest = _RESTS[ahead > _FAR_AHEAD] * (time.monotonic() - start)
            self._stop.wait(rest)


def _pieces(files: Iterator[Found]) -> Iterator[list[Found]]:
    while piece := list(islice(files, _ROWS)):
        yield piece


def _now() -> datetime:
    return datetime.now(UTC)
