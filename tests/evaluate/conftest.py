"""Labelled records for the tests of evaluate."""

import numpy as np
import pytest

from worker.evaluate.sample import Scored
from worker.records import Decision, Record

THRESHOLD, LOW, HIGH = 0.5, 0.35, 0.65


def decide(probability):
    if LOW < probability < HIGH:
        return Decision.INDETERMINATE
    return Decision.PNEUMONIA if probability >= THRESHOLD else Decision.NORMAL


@pytest.fixture
def scored():
    """Make one labelled record; the decision follows from the probability unless given."""

    def make(label, probability, group="", *, decision=None, file="film.jpeg", **fields):
        if decision is None:
            decision = Decision.REFUSED if probability is None else decide(probability)
        values = {
            "file": file,
            "sha256": "ab" * 32,
            "decision": decision,
            "probability": probability,
            "threshold": THRESHOLD,
            "guard_score": 0.1,
            "guard_threshold": 0.9,
            "reason": None,
            "message": "",
            "model": "mobilenetv2",
            "weights_sha256": "cd" * 32,
        } | fields
        return Scored(Record(**values), label, group or file)

    return make


@pytest.fixture
def many(scored):
    """300 films of 150 patients, most of them called right, a few refused or unreadable."""
    rng = np.random.default_rng(7)
    films = []
    for number in range(300):
        label = "PNEUMONIA" if rng.random() < 0.6 else "NORMAL"
        centre = 1.5 if label == "PNEUMONIA" else -1.5
        probability = float(1 / (1 + np.exp(-rng.normal(centre, 1.5))))
        decision = Decision.REFUSED if number < 5 else None
        films.append(
            scored(
                label,
                None if number < 2 else probability,
                f"person{number // 2}",
                decision=decision,
                file=f"films/{number}.jpeg",
            )
        )
    return films
