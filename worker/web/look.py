"""One look at the site, as a piece of a page: the worker, what waits, what came last."""

import time
from dataclasses import dataclass

from worker.heartbeat import Health, judge, pulse_file, read_pulse
from worker.intake.scan import Survey, survey
from worker.report.environment import render_piece
from worker.report.results import entries_of, row_of
from worker.report.wording import Group
from worker.report.worklist import Entry
from worker.store.browse import Arrival, browse, newest_files
from worker.store.counts import counts_by_decision
from worker.store.filters import Filter
from worker.store.queries import results_in
from worker.store.runs import latest_card
from worker.web.metrics import HANGS_AFTER_S
from worker.web.room import Room

_NEWEST = 8
_TO_REVIEW = 8
_COUNT_EVERY_S = 5.0  # what costs more at a large site


@dataclass(frozen=True)
class _Counts:
    inbox: int
    left_alone: int
    unreadable: int
    results: dict[str, int]
    to_review: list[tuple[Entry, Group]]


class Look:
    """Looks when it is called; counts are some seconds old at most."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._counted_s, self._counts = float("-inf"), _Counts(0, 0, 0, {}, [])

    def __call__(self) -> str:
        """HTML for the middle of the reading room."""
        arrivals = newest_files(self._room.reader, _NEWEST)
        if time.monotonic() - self._counted_s > _COUNT_EVERY_S:
            self._counts, self._counted_s = self._count(), time.monotonic()
        return render_piece(
            "live.html",
            worker=self._worker(),
            counts=self._counts,
            waiting=[each for each in arrivals if each.state in ("waiting", "attempted")],
            ended=self._ended(arrivals),
            model=None,
        )

    def _worker(self) -> Health:
        pulse = read_pulse(pulse_file(self._room.config.database.file))
        return judge(pulse, time.monotonic(), HANGS_AFTER_S)

    def _ended(self, arrivals: list[Arrival]) -> list[tuple[Entry, Group]]:
        if not arrivals:
            return []
        found = results_in(self._room.reader, arrivals[-1].id, arrivals[0].id)
        return entries_of([row_of(each) for each in reversed(found)])

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
        """The most suspicious films that nobody has reviewed."""
        card = latest_card(self._room.reader)
        if card is None:
            return []
        wanted = Filter(
            decision=card.labels[1], status="screened", reviewed=False, limit=_TO_REVIEW
        )
        leaf = browse(self._room.reader, wanted, sort="score")
        return entries_of([row_of(each) for each in leaf.results])
