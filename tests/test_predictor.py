"""Films are predicted as they come: each gets its own answer, once, whatever goes on around it."""

import gc
import os
import threading
import weakref
from concurrent.futures import Future, wait
from contextlib import closing

import numpy as np
import pytest
import torch

from models.registry import find_model, load_model
from worker.config import load_config
from worker.errors import DecoderUnavailable
from worker.inference.engine import Engine
from worker.inference.predictor import Predictor
from worker.records import Prediction
from worker.screening import Screener


class CountingEngine:
    """Answers each film with its first pixel; `gate` holds the first pass back."""

    def __init__(self, device="cpu", at_once=4):
        self.device, self.at_once = torch.device(device), at_once
        self.passes, self.ran_in = [], []
        self.threads = len(os.sched_getaffinity(0)) if device == "cpu" else 1
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        self.error = None

    def predict(self, films):
        self.passes.append(len(films))
        self.ran_in.append((threading.current_thread(), torch.get_num_threads()))
        self.entered.release()
        self.gate.wait(30)
        if self.error:
            raise self.error
        return [Prediction(float(film[0, 0]), np.zeros((1, 1), np.float32), 0, 0) for film in films]


def film(value):
    return np.full((2, 2), value, np.float32)


@pytest.fixture
def one_core(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})


def test_each_film_gets_its_own_answer():
    engine = CountingEngine()
    engine.gate.set()
    with closing(Predictor(engine, 16)) as predictor:
        values = np.linspace(0, 1, 50, dtype=np.float32)
        futures = [predictor.submit(film(value)) for value in values]
        assert [each.result(30).probability for each in futures] == pytest.approx(list(values))
    assert sum(engine.passes) == 50
    assert max(engine.passes) <= 4


def test_films_that_wait_go_together_as_many_as_go_at_once(one_core):
    engine = CountingEngine(at_once=4)
    with closing(Predictor(engine, 16)) as predictor:
        first = predictor.submit(film(0))
        engine.entered.acquire(timeout=30)
        rest = [predictor.submit(film(0)) for _ in range(6)]
        engine.gate.set()
        wait([first, *rest], 30)
    assert engine.passes == [1, 4, 2]


def test_a_gpu_has_one_thread_and_takes_a_whole_batch():
    engine = CountingEngine("cuda", at_once=None)
    with closing(Predictor(engine, 16)) as predictor:
        first = predictor.submit(film(0))
        engine.entered.acquire(timeout=30)
        rest = [predictor.submit(film(0)) for _ in range(20)]
        engine.gate.set()
        wait([first, *rest], 30)
    assert engine.passes == [1, 16, 4]
    assert len({thread for thread, _ in engine.ran_in}) == 1


def test_a_thread_keeps_to_its_core_and_leaves_the_others_theirs():
    before = torch.get_num_threads()
    engine = CountingEngine()
    engine.gate.set()
    with closing(Predictor(engine, 16)) as predictor:
        predictor.submit(film(0)).result(30)
    assert {cores for _, cores in engine.ran_in} == {1}
    assert torch.get_num_threads() == before


def test_an_error_reaches_every_film_of_its_pass_and_the_next_pass_goes_on(one_core):
    engine = CountingEngine()
    engine.gate.set()
    engine.error = FloatingPointError("no number")
    with closing(Predictor(engine, 16)) as predictor:
        with pytest.raises(FloatingPointError):
            predictor.submit(film(0)).result(30)
        engine.error = None
        assert predictor.submit(film(1)).result(30).probability == 1


def test_closing_cancels_what_waits_and_finishes_the_pass_in_hand(one_core):
    engine = CountingEngine()
    predictor = Predictor(engine, 16)
    running = predictor.submit(film(1))
    engine.entered.acquire(timeout=30)
    waiting = [predictor.submit(film(0)) for _ in range(6)]
    closer = threading.Thread(target=predictor.close)
    closer.start()
    engine.gate.set()
    closer.join(30)
    assert running.result(0).probability == 1
    assert all(each.cancelled() for each in waiting)
    assert predictor.submit(film(0)).cancelled()


def test_a_film_that_nobody_wants_any_more_is_not_predicted(one_core):
    engine = CountingEngine()
    with closing(Predictor(engine, 16)) as predictor:
        predictor.submit(film(0))
        engine.entered.acquire(timeout=30)
        unwanted = predictor.submit(film(0))
        assert unwanted.cancel()
        engine.gate.set()
        predictor.submit(film(0)).result(30)
    assert engine.passes == [1, 1]


@pytest.fixture
def screener(tiny_model, tmp_path):
    (tmp_path / "config.toml").write_text(f'[model]\nname = "{tiny_model}"\n')
    with closing(Screener(load_config(tmp_path / "config.toml"))) as made:
        yield made


def test_an_examined_film_was_decoded_and_predicted_once_without_a_backward_pass(
    screener, sample_films, monkeypatch
):
    passed = []
    network = screener.engine._network
    network.register_forward_hook(lambda _, given, __: passed.extend(given[0]))
    monkeypatch.setattr(torch.autograd, "grad", None)
    monkeypatch.setattr(torch.Tensor, "backward", None)
    decoded = []
    submit = screener._pool.submit
    monkeypatch.setattr(screener._pool, "submit", lambda path: decoded.append(path) or submit(path))
    paths = sorted(sample_films.rglob("*.jpeg"))[:6]
    examined = [each.result(60) for each in [screener.examine(path) for path in paths]]
    assert decoded == paths
    assert len(passed) == len(paths)
    alone = screener.engine.predict(np.stack([each.film.model_input for each in examined]))
    assert [each.prediction.probability for each in examined] == pytest.approx(
        [each.probability for each in alone], rel=1e-5
    )


def test_a_film_that_cannot_be_decoded_says_so_and_is_not_predicted(screener, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no film")
    passed = []
    screener.engine._network.register_forward_hook(lambda *_: passed.append(1))
    error = screener.examine(tmp_path / "a.jpg").exception(60)
    assert error.slug == "not-a-film"
    assert not passed


def test_a_cancelled_film_is_not_decoded_when_its_turn_comes(screener, tmp_path, monkeypatch):
    decoding: Future = Future()
    monkeypatch.setattr(screener._pool, "submit", lambda _: decoding)
    examined = screener.examine(tmp_path / "a.jpg")
    assert examined.cancel()
    assert decoding.cancelled()


def test_the_shipped_networks_answer_alike_in_passes_of_any_size():
    """Films meet other films in a pass by chance; that must not be seen in their answers."""
    engine = Engine(load_model(find_model("default")), "cpu", "float32")
    size = engine.card.input.size_px
    films = np.random.default_rng(5).random((5, size, size), dtype=np.float32)
    together = engine.predict(films)
    for one, other in zip(films, together, strict=True):
        (alone,) = engine.predict(one[None])
        assert alone.probability == pytest.approx(other.probability, abs=1e-5)
        np.testing.assert_allclose(alone.evidence, other.evidence, atol=1e-3)


def test_a_film_whose_decoders_were_closed_blames_no_film(screener, tmp_path, monkeypatch):
    decoding: Future = Future()
    monkeypatch.setattr(screener._pool, "submit", lambda _: decoding)
    examined = screener.examine(tmp_path / "a.jpg")
    decoding.cancel()
    assert isinstance(examined.exception(1), DecoderUnavailable)


def test_films_are_forgotten_with_their_futures(screener, sample_films):
    """Two futures that held each other once kept every film until the collector came."""
    paths = 2 * sorted(sample_films.rglob("*.jpeg"))
    gc.disable()
    try:
        films = [weakref.ref(screener.examine(path).result(60).film) for path in paths]
        kept = sum(film() is not None for film in films)
    finally:
        gc.enable()
    assert kept < len(paths) / 2  # threads keep what they had in hand last
