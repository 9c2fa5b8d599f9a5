"""What a page needs to know, gathered by the pipeline or read back from the database."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from models.cards import Card, Population
from worker.records import Labels, Record, Tags
from worker.store.previous import PreviousFilm
from worker.store.reviews import Review


@dataclass(frozen=True)
class ModelFacts:
    """What the reader must know of the model that answered; from its card.

    `labels` are its words: (negative, positive).
    `metrics` were measured at the card's threshold, which a site may have replaced by its own:
    `threshold_chosen_on` says on which films the one in use was chosen.
    `indeterminate` is the abstention band [low, high] in calibrated probability;
    `evidence_scale` is the evidence (logit) at the top of the heat map's fixed scale; `is_int8`
    says that the map's cells may be far off.
    """

    name: str
    version: str
    labels: Labels
    weights_sha256: str
    architecture: str
    intended_use: str
    not_for: tuple[str, ...]
    population: Population
    metrics: tuple[tuple[str, str], ...]
    threshold: float
    threshold_chosen_on: str
    indeterminate: tuple[float, float]
    guard_threshold: float
    evidence_scale: float
    is_int8: bool = False

    @property
    def validated_on(self) -> str:
        """Whose films the model was validated on, with their ages."""
        people = self.population
        return (
            f"{people.description}, {people.min_age_years:g} to {people.max_age_years:g} years old"
        )


def is_int8(card: Card) -> bool:
    """Whether a card speaks of an int8 file, whose heat maps may be far off: docs/EXPORT.md."""
    return card.export is not None and card.export.precision == "int8"


@dataclass(frozen=True)
class FilmView:
    """One screened film, for its page.

    `evidence` is float32 (h, w): the evidence for the positive label in each cell of the model's
    grid, in log-odds; its mean plus a constant of the model is the film's score. `None` when the
    model gave no map. `picture` is the grey JPEG. `page` is the page's path below reports/.
    `previous` are films with the same patient ID that came before, at sites that keep it; `reviews`
    are readers' opinions, newest first.
    """

    record: Record
    model: ModelFacts
    picture: bytes
    evidence: NDArray[np.float32] | None
    page: str
    format: str
    rows: int
    columns: int
    tags: Tags
    notes: tuple[str, ...]
    run: int
    screened_at: datetime
    duplicates: tuple[str, ...] = ()
    previous: tuple[PreviousFilm, ...] = ()
    reviews: tuple[Review, ...] = ()


@dataclass(frozen=True)
class WorklistRow:
    """One file fed in, for the worklist: a screening, a duplicate of one, or a failure.

    `labels` are the words of its model. `status` is `screened`, `duplicate` or `failed`; `page` is
    below reports/, `None` for failures; `removed_at` says when retention removed it, `left_out`
    that none was made, on purpose. `resolution` says what an operator decided about a failure,
    `verdict` what a reader said of the answer.
    `file_id` is its number in the database.
    """

    record: Record
    labels: Labels
    status: str
    page: str | None
    run: int
    at: datetime
    removed_at: datetime | None = None
    left_out: bool = False
    resolution: str | None = None
    file_id: int = 0
    verdict: str | None = None

    @property
    def has_page(self) -> bool:
        """Whether there is a report to open."""
        return self.page is not None and self.removed_at is None and not self.left_out


@dataclass(frozen=True)
class RunView:
    """One run of the worker, for the head of the worklist. Times in UTC; `None` while it runs."""

    run: int
    kind: str
    source: str
    started_at: datetime
    finished_at: datetime | None
    device: str
    counts: dict[str, int]
