"""A backfill has come to its end only when nothing of its archives waits or is in hand."""

import pytest

from worker.store.left import is_left
from worker.store.work import begin_attempt

pytestmark = pytest.mark.databases


@pytest.fixture
def left(engine, model_id):
    return lambda *sources: is_left(engine, sources, model_id)


def test_what_waits_is_left(shop, left):
    shop.item(source="/archive")
    assert left("/archive", "/other")
    assert not left("/other")


def test_what_is_in_the_hands_of_a_worker_is_left(shop, left, engine, run_id, model_id):
    item = shop.item(source="/archive")
    begin_attempt(engine, [item], run_id, model_id)
    assert left("/archive")


def test_what_has_ended_is_not_left(shop, left):
    shop.finish(shop.failed(shop.item(source="/archive")))
    assert not left("/archive")


def test_what_waits_for_another_model_is_not_left(shop, engine, model_id):
    shop.item(source="/archive")
    assert not is_left(engine, ["/archive"], model_id + 1)
