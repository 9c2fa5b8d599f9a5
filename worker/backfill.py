"""Screen an archive without touching it: a manifest in the database, resumable at any moment."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice

from sqlalchemy import Engine

from worker.aside import Aside
from worker.decoding import Started
from worker.intake.found import Found
from worker.pipeline import Pipeline
from worker.store.outcomes import Outcome
from worker.store.work import Item, record

_MANIFEST_ROWS = 512  # recorded in one transaction


def backfill(
    engine: Engine,
    pipeline: Pipeline,
    files: Iterable[Found],
    *,
    run_id: int,
    model_id: int,
    batch_size: int,
    limit: int | None,
    advance: Callable[[int, list[Outcome]], None],
) -> None:
    """Screen every file that this model has not finished yet, `limit` of them at the most.

    `advance(files, outcomes)` is told of each step: files passed over because they were finished
    before, or the committed outcomes of a batch. Raises OSError or StoreError when disk or
    database refuse; the same call again goes on where this one stopped.
    """
    started: deque[Started] = deque()
    aside = Aside(pipeline, lambda batch, outcomes: advance(len(batch.items), outcomes))
    try:
        to_do = islice(_to_do(engine, files, run_id, model_id, advance), limit)
        for items in _batches(to_do, batch_size):
            if items[0].worker_deaths:  # quite alone, so that no other film is blamed
                _finish_all(started, aside)
            started.append(pipeline.start(items))
            if items[0].worker_deaths or len(started) == pipeline.batches_under_way:
                aside.finish(started.popleft())
                aside.finish_decoded()
        _finish_all(started, aside)
    finally:
        aside.abandon()
        for batch in started:
            pipeline.abandon(batch)


def _finish_all(started: deque[Started], aside: Aside) -> None:
    while started:
        aside.finish(started.popleft())
    aside.finish_all()


def _to_do(
    engine: Engine,
    files: Iterable[Found],
    run_id: int,
    model_id: int,
    advance: Callable[[int, list[Outcome]], None],
) -> Iterator[Item]:
    """Record the manifest piece by piece; give what is still to do."""
    rest = iter(files)
    while chunk := list(islice(rest, _MANIFEST_ROWS)):
        items = record(engine, chunk, run_id, model_id, datetime.now(UTC))
        if len(items) < len(chunk):
            advance(len(chunk) - len(items), [])
        yield from items


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
