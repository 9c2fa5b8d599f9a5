"""Screen an archive without touching it: a manifest in the database, resumable at any moment."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import Engine

from worker.aside import Aside, Committed
from worker.decoding import Started
from worker.folders import raise_it
from worker.intake.archive import Archive, Ground
from worker.lister import Lister
from worker.pipeline import Pipeline
from worker.spool import Spool
from worker.store.archives import Listing, waiting_after
from worker.store.outcomes import Outcome
from worker.store.work import Item

_READ_AT_ONCE = 512  # rows of the manifest

Advance = Callable[[int, list[Outcome]], None]


def backfill(
    engine: Engine,
    pipeline: Pipeline,
    archives: Sequence[Archive],
    *,
    run_id: int,
    model_id: int,
    batch_size: int,
    limit: int | None,
    advance: Advance,
    on_total: Callable[[int], None] = lambda _files: None,
    rescan: bool = False,
    spool: Spool | None = None,
    on_error: Callable[[OSError], None] = raise_it,
    on_resume: Callable[[Listing], None] = lambda _listing: None,
) -> None:
    """Screen every file that this model has not finished yet, `limit` of them at the most.

    The archives are listed into the database meanwhile (`worker.lister`); `on_total` is told how
    many files are known of so far. `advance(files, outcomes)` is told of each step: files passed
    over because they were finished before, or the committed outcomes of a batch. Folders that
    cannot be listed go to `on_error`, lists that serve again to `on_resume`; with `rescan` none
    does. Archives in object stores need a `spool`, which the caller closes. Raises OSError or
    StoreError when disk, store or database refuse; the same call again goes on where this one
    stopped.
    """

    def finished(batch: Started, outcomes: list[Outcome]) -> None:
        if spool:
            spool.release(batch.items)
        advance(len(batch.items), outcomes)

    archives = list({each.source: each for each in archives}.values())
    pipeline.require_archive = Ground(archives).require
    lister = Lister(
        engine,
        archives,
        run_id=run_id,
        model_id=model_id,
        rescan=rescan,
        on_error=on_error,
        on_resume=on_resume,
    )
    told = _Told(lister, advance, on_total)
    with lister:
        to_do: Iterator[Item] = islice(_to_do(engine, archives, model_id, lister, told), limit)
        screen(pipeline, _batches(spool.ready(to_do) if spool else to_do, batch_size), finished)
    told()


def screen(pipeline: Pipeline, batches: Iterable[list[Item]], committed: Committed) -> None:
    """Bring batches to their end, several under way; `committed` is told of each.

    An empty batch asks that those under way be finished first. Raises OSError or StoreError when
    disk or database refuse.
    """
    started: deque[Started] = deque()
    aside = Aside(pipeline, committed)
    try:
        for items in batches:
            if not items or items[0].worker_deaths:  # quite alone, so that no other film is blamed
                _finish_all(started, aside)
            if not items:
                continue
            started.append(pipeline.start(items))
            if items[0].worker_deaths or len(started) == pipeline.batches_under_way:
                aside.finish(started.popleft())
                aside.finish_decoded()
        _finish_all(started, aside)
    finally:
        aside.abandon()
        for batch in started:
            pipeline.abandon(batch)


class _Told:
    """Tells what the lister has found since the last time."""

    def __init__(self, lister: Lister, advance: Advance, on_total: Callable[[int], None]) -> None:
        self._lister, self._advance, self._on_total = lister, advance, on_total
        self._passed = 0

    def __call__(self) -> None:
        lister = self._lister
        self._on_total(max(lister.files, lister.passed + lister.taken))
        new = lister.passed - self._passed
        if new:
            self._passed += new
            self._advance(new, [])


def _finish_all(started: deque[Started], aside: Aside) -> None:
    while started:
        aside.finish(started.popleft())
    aside.finish_all()


def _to_do(
    engine: Engine,
    archives: Sequence[Archive],
    model_id: int,
    lister: Lister,
    told: Callable[[], None],
) -> Iterator[Item]:
    """What waits, archive by archive in the order it was listed, until the lists are whole."""
    for number, archive in enumerate(archives):
        last = 0
        while True:
            state = lister.state(number)  # before asking: what comes later is asked for again
            items: list[Item] = []
            if state != "to come":
                items = waiting_after(engine, archive.source, model_id, last, _READ_AT_ONCE)
            told()
            if items:
                last, lister.taken = items[-1].id, lister.taken + len(items)
                yield from items
            elif state == "whole":
                break
            else:
                lister.wait()


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Batches in order; a film that was in hand when a worker died goes alone."""
    batch: list[Item] = []
    for item in items:
        if item.worker_deaths:
            yield [item]
            continue
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
