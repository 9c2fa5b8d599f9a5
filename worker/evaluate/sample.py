"""Labelled records as the arrays that metrics and figures are made from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.labels import LABELS
from worker.records import Decision, Labels, Record


@dataclass(frozen=True)
class Scored:
    """One film with its record, its truth (a label of the model) and its patient."""

    record: Record
    label: str
    group: str


@dataclass(frozen=True)
class Sample:
    """Decoded films as arrays (n,): truth and call are True for the positive label.

    `scores` are in [0, 1]; `groups` numbers the patients from 0. `called` is the forced choice at
    `threshold`. `labels` are (negative, positive).
    """

    truth: NDArray[np.bool_]
    called: NDArray[np.bool_]
    scores: NDArray[np.float64]
    groups: NDArray[np.int64]
    threshold: float
    labels: Labels = LABELS

    @property
    def has_both_classes(self) -> bool:
        """Whether ranking and discrimination can be measured at all."""
        return bool(self.truth.any() and not self.truth.all())


def decoded(scored: Sequence[Scored]) -> list[Scored]:
    """The films that have a score; the others could not be read."""
    return [film for film in scored if film.record.probability is not None]


def is_answered(record: Record) -> bool:
    """Whether the model answered: neither indeterminate nor refused nor unreadable."""
    left = (Decision.INDETERMINATE, Decision.REFUSED)
    return record.probability is not None and record.decision not in left


def sample(films: Sequence[Scored], threshold: float, labels: Labels = LABELS) -> Sample:
    """Decoded films as arrays, each called positive when its probability reaches `threshold`.

    Raises ValueError for an unknown label and for a score that is not in [0, 1].
    """
    if unknown := {film.label for film in films} - set(labels):
        raise ValueError(f"labels {sorted(unknown)} are none of {labels}")
    scores = np.array([film.record.probability for film in films], dtype=np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("a probability is not in [0, 1]")
    patients = sorted({film.group for film in films})  # sorted: no draw depends on the films' order
    number = {patient: index for index, patient in enumerate(patients)}
    return Sample(
        truth=np.array([film.label == labels[1] for film in films], dtype=np.bool_),
        called=scores >= threshold,
        scores=scores,
        groups=np.array([number[film.group] for film in films], dtype=np.int64),
        threshold=threshold,
        labels=labels,
    )
