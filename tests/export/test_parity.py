"""What counts as another answer of an export."""

import numpy as np
import pytest

from tests.standin import make_card
from worker.export.parity import compare, is_alike
from worker.inference.portable import Answers

CARD = make_card()  # threshold 0.6, abstains between 0.5 and 0.7, guard 0.5


def answer(probability=0.9, guard_score=0.1, not_chest_score=0.1):
    parts = (probability, guard_score, not_chest_score)
    probability, guard_score, not_chest_score = (np.array([part], np.float32) for part in parts)
    heat_map = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    return Answers(probability, heat_map, guard_score, not_chest_score)


def compared(found, expected):
    return compare(found, expected, CARD, "one film")


def test_the_same_is_alike():
    assert is_alike(compared(answer(), answer()))
    assert is_alike(compared(answer(0.901), answer()))


@pytest.mark.parametrize(
    ("found", "expected", "changed"),
    [
        (answer(0.599), answer(0.6), "forced_choices_changed"),
        (answer(0.701), answer(0.699), "abstentions_changed"),
        (answer(0.5), answer(0.501), "abstentions_changed"),
        (answer(guard_score=0.501), answer(guard_score=0.5), "guard_decisions_changed"),
    ],
)
def test_another_decision_is_never_alike_however_near(found, expected, changed):
    apart = compared(found, expected)
    assert apart.probability <= 0.01
    changes = apart.model_dump(
        include={name for name in type(apart).model_fields if "_changed" in name}
    )
    assert changes == {name: int(name == changed) for name in changes}
    assert not is_alike(apart)


def test_what_lies_apart_is_not_alike():
    assert not is_alike(compared(answer(0.92), answer()))
    assert not is_alike(compared(answer(guard_score=0.12), answer()))
