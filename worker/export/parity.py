"""How alike the answers of an export and of the model itself are, film by film."""

import numpy as np
from numpy.typing import NDArray

from models.cards import Card, Parity
from worker.inference.engine import Engine
from worker.inference.portable import Answers

MOST = 0.01  # apart: of probabilities and guard scores, and of a heat map's range


def answers_of(engine: Engine, films: NDArray[np.float32]) -> Answers:
    """What the worker's own engine says of N prepared films, (N, S, S)."""
    found = engine.predict(films)
    return Answers(
        np.array([one.probability for one in found], np.float32),
        np.stack([one.evidence for one in found]),
        np.array([one.guard_score for one in found], np.float32),
        np.array([one.not_chest_score for one in found], np.float32),
    )


def compare(found: Answers, expected: Answers, card: Card, of: str) -> Parity:
    """Compare the answers of an export with the model's own; `of` says which films."""
    maps = found.heat_map - expected.heat_map
    least = MOST * card.heat_map.evidence_scale  # a map of one cell has no range
    ranges = np.maximum(np.ptp(expected.heat_map, axis=(1, 2)), least)
    return Parity(
        films=len(expected.probability),
        of=of,
        probability=_most(found.probability - expected.probability),
        heat_map=_most(maps / ranges[:, None, None]),
        guard_score=max(
            _most(found.guard_score - expected.guard_score),
            _most(found.not_chest_score - expected.not_chest_score),
        ),
        forced_choices_changed=_changed(
            found.probability >= card.decision.threshold,
            expected.probability >= card.decision.threshold,
        ),
        abstentions_changed=_changed(_abstains(found, card), _abstains(expected, card)),
        guard_decisions_changed=_changed(_outside(found, card), _outside(expected, card)),
    )


def is_alike(parity: Parity) -> bool:
    """Whether an export answers as its model does, within `MOST` and without another decision."""
    apart = max(parity.probability, parity.heat_map, parity.guard_score)
    changed = (
        parity.forced_choices_changed,
        parity.abstentions_changed,
        parity.guard_decisions_changed,
    )
    return apart <= MOST and not any(changed)


def _most(differences: NDArray[np.float32]) -> float:
    return float(f"{np.abs(differences).max():.3g}")


def _changed(found: NDArray[np.generic], expected: NDArray[np.generic]) -> int:
    return int(np.sum(found != expected))


def _abstains(answers: Answers, card: Card) -> NDArray[np.bool_]:
    """Whether each film lies within the abstention band."""
    low, high = card.decision.indeterminate
    return (answers.probability > low) & (answers.probability < high)


def _outside(answers: Answers, card: Card) -> NDArray[np.int64]:
    """What the guard says of each film: 0 known, 1 of another population, 2 no chest film."""
    unlike = answers.guard_score > card.guard.threshold
    return np.where(unlike, 1 + (answers.not_chest_score > 0.5), 0)
