"""The progress bar of a backfill: rate, time left, counts by decision."""

from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from worker.records import Decision, Labels
from worker.store.outcomes import Duplicate, Failed, Outcome, Screened


class Progress:
    """A bar on stderr, silent where stderr is no terminal, and the counts it showed."""

    def __init__(self, total: int, labels: Labels) -> None:
        """Count `total` files, with decisions in the words of these labels."""
        negative, positive = labels
        self._shown = (
            *(positive, negative, Decision.INDETERMINATE, Decision.REFUSED),
            *("duplicate", "failed"),
        )
        self.counts: Counter[str] = Counter()
        self._bar = tqdm(total=total, unit="film", disable=None, smoothing=0.1)

    def advance(self, files: int, outcomes: Sequence[Outcome]) -> None:
        """Move on by `files`; without outcomes they had been finished before."""
        for outcome in outcomes:
            match outcome:
                case Screened(record=record):
                    self.counts[record.decision] += 1
                case Duplicate():
                    self.counts["duplicate"] += 1
                case Failed():
                    self.counts["failed"] += 1
        if not outcomes:
            self.counts["finished before"] += files
        self._bar.set_postfix_str(self._text(), refresh=False)
        self._bar.update(files)

    def _text(self) -> str:
        return ", ".join(f"{name} {self.counts[name]}" for name in self._shown if self.counts[name])

    def summary(self) -> str:
        """One line with all counts."""
        names = (*self._shown, "finished before")
        return ", ".join(f"{name} {self.counts[name]}" for name in names)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
