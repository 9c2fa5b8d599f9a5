"""What became of the files of a backfill, in one line."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from worker.records import Decision, Labels

if TYPE_CHECKING:
    from worker.store.outcomes import Outcome

_BEFORE = "finished before"


class Tally:
    """Counts by decision, in the words of a model."""

    def __init__(self, labels: Labels) -> None:
        """Start with nothing; `labels` are (negative, positive)."""
        negative, positive = labels
        self._names = (
            *(positive, negative, Decision.INDETERMINATE, Decision.REFUSED),
            *("duplicate", "failed"),
        )
        self._counts: Counter[str] = Counter()

    @property
    def files(self) -> int:
        """How many came to an end now, not before."""
        return self._counts.total() - self._counts[_BEFORE]

    def add(self, files: int, outcomes: "Sequence[Outcome]") -> None:
        """Count some files; without outcomes they had been finished before."""
        from worker.store.outcomes import Duplicate, Failed, Screened

        for outcome in outcomes:
            match outcome:
                case Screened(record=record):
                    self._counts[record.decision] += 1
                case Duplicate():
                    self._counts["duplicate"] += 1
                case Failed():
                    self._counts["failed"] += 1
        if not outcomes:
            self._counts[_BEFORE] += files

    def put(self, counts: Mapping[str, int], before: int) -> None:
        """Take counts by decision, and how many files had been finished before, as they are."""
        self._counts = Counter(counts) | Counter({_BEFORE: before})

    def short(self) -> str:
        """What there is, for the end of a bar."""
        return ", ".join(
            f"{name} {self._counts[name]}" for name in self._names if self._counts[name]
        )

    def __str__(self) -> str:
        return ", ".join(f"{name} {self._counts[name]}" for name in (*self._names, _BEFORE))
