"""Batches set aside because their films keep others waiting: a decoder that hangs, or died."""

from collections.abc import Callable

from worker.decoding import Started
from worker.pipeline import Pipeline
from worker.store.outcomes import Outcome

Committed = Callable[[Started, list[Outcome]], None]


class Aside:
    """Finishes such batches when their decoders are done; `committed` is told of each."""

    def __init__(self, pipeline: Pipeline, committed: Committed) -> None:
        self._pipeline, self._committed = pipeline, committed
        self._batches: list[Started] = []

    def __bool__(self) -> bool:
        """Whether anything is set aside."""
        return bool(self._batches)

    @property
    def ids(self) -> set[int]:
        """Ids of the items that are set aside."""
        return {item.id for batch in self._batches for item in batch.items}

    def finish(self, batch: Started) -> None:
        """Finish a batch; what would keep others waiting is set aside, but for a troubled film."""
        if batch.is_troubled:
            self._committed(batch, self._pipeline.finish(batch))
            return
        outcomes, rest = self._pipeline.finish_ready(batch)
        if rest:
            self._batches.append(rest)
        self._committed(batch, outcomes)

    def finish_decoded(self) -> None:
        """Finish every batch whose decoders are done."""
        while decoded := [batch for batch in self._batches if batch.is_decoded]:
            self._batches = [batch for batch in self._batches if batch not in decoded]
            for batch in decoded:
                self.finish(batch)

    def finish_all(self) -> None:
        """Wait for all of them."""
        while self._batches:
            batch = self._batches.pop(0)
            self._committed(batch, self._pipeline.finish(batch))

    def abandon(self) -> None:
        """Forget them; their files can be started again."""
        while self._batches:
            self._pipeline.abandon(self._batches.pop())
