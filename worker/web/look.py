"""One look at the site, as a piece of a page: the worker, what waits, what came last."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.heartbeat import health_of
from worker.intake.scan import Survey, survey
from worker.report.environment import render_piece
from worker.report.results import entries_of, row_of
from worker.report.wording import Group
from worker.report.worklist import Entry
from worker.store.browse import newest_results, to_review, unfinished_files
from worker.store.counts import counts_by_decision
from worker.store.queries import Result
from worker.store.runs import latest_card
from worker.web.room import Room

_NEWEST = 8
_IN_HAND = 8
_IN_HAND_COUNTED = 10_000  # beyond this many "more than" says enough
_TO_REVIEW, _UNDECIDED = 8, 4
_COUNT_EVERY_S = 5.0  # what costs more at a large site
_COUNT_SHARE = 10  # and where it costs much, it is done at most this part of the time


@dataclass(frozen=True)
class _Counts:
    inbox: int
    left_alone: int
    unreadable: int
    results: dict[str, int]
    to_review: list[tuple[Entry, Group]]


class Look:
    """Looks when it is called; counts are some seconds old, older where counting is slow."""

    def __init__(self, room: Room, clock: Callable[[], float] = time.monotonic) -> None:
        self._room, self._clock = room, clock
        self._count_at_s, self._counts = float("-inf"), _Counts(0, 0, 0, {}, [])

    def __call__(self) -> str:
        """HTML for the middle of the reading room."""
        began_s = self._clock()
        if began_s >= self._count_at_s:
            self._counts, ended_s = self._count(), self._clock()
            self._count_at_s = ended_s + max(_COUNT_EVERY_S, _COUNT_SHARE * (ended_s - began_s))
        in_hand, count = unfinished_files(self._room.reader, _IN_HAND, _IN_HAND_COUNTED)
        return render_piece(
            "live.html",
            worker=health_of(self._room.config.local_state, time.monotonic()),
            counts=self._counts,
            in_hand=in_hand,
            more_in_hand=count - len(in_hand),
            uncounted=count == _IN_HAND_COUNTED,
            ended=_entries(newest_results(self._room.reader, _NEWEST)),
            model=None,
        )

    def _count(self) -> _Counts:
        try:
            found = survey(self._room.config.site.inbox)
        except OSError:  # the share is gone: what the worker says of it stands above
            found = Survey(0, {}, 1)
        return _Counts(
            inbox=found.files,
            left_alone=sum(found.left_alone.values()),
            unreadable=found.unreadable,
            results=counts_by_decision(self._room.reader),
            to_review=self._to_review(),
        )

    def _to_review(self) -> list[tuple[Entry, Group]]:
        """The most suspicious films that nobody has reviewed, and then undecided ones."""
        card = latest_card(self._room.reader)
        if card is None:
            return []
        return _entries(to_review(self._room.reader, card.labels[1], _TO_REVIEW, _UNDECIDED))


def _entries(results: list[Result]) -> list[tuple[Entry, Group]]:
    return entries_of([row_of(each) for each in results])
