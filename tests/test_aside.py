"""A film that hangs in its decoder, or takes it down, holds up no other."""

import threading
import time
from collections import Counter
from concurrent.futures import Future

import pytest

from tests.standin import examined_film
from tests.ward import Ward
from worker.errors import DecoderCrashed, DecoderTimeout
from worker.site import hold_site
from worker.store.work import end_run

pytestmark = pytest.mark.databases


@pytest.fixture
def ward(quick_site, screener, noon, monkeypatch):
    monkeypatch.setattr("worker.decoding._ALIVE_EVERY_S", 0.01)
    with hold_site(quick_site) as engine:
        yield Ward(quick_site, engine, screener, noon)


@pytest.fixture
def hanging(ward, monkeypatch):
    """Decoders of `slow` films do not answer: their futures, in the order they were asked for."""
    futures, decode = [], ward.screener.examine

    def hang(path):
        if path.read_bytes() != b"slow":
            return decode(path)
        futures.append(Future())
        return futures[-1]

    monkeypatch.setattr(ward.screener, "examine", hang)
    return futures


def test_a_film_that_hangs_holds_up_neither_its_batch_nor_later_ones(ward, hanging):
    """For three minutes nothing else was screened."""
    ward.drop(a=b"1", b=b"slow", c=b"2")
    ward.turns()
    ward.drop(later=b"3")
    ward.turns()
    states = {"a": "screened", "b": "attempted", "c": "screened", "later": "screened"}
    assert ward.states() == states
    hanging[0].set_result(examined_film(b"slow"))
    ward.turns(1)
    assert ward.states() == states | {"b": "screened"}
    assert len(list(ward.config.site.done.iterdir())) == 4


def test_a_film_that_takes_its_decoder_down_is_tried_again_after_the_others(ward):
    ward.screener.errors[b"bad"] = [DecoderCrashed("died"), None]
    ward.drop(a=b"bad", b=b"1", c=b"2")
    ward.turns()
    assert ward.screener.answered == [["b.jpg", "c.jpg"], ["a.jpg"]]


def test_a_film_that_hangs_three_times_is_quarantined_and_the_others_never_waited(ward, hanging):
    ward.drop(a=b"slow", b=b"1")
    ward.turns()
    for strike in range(3):
        assert ward.states() == {"a": "attempted", "b": "screened"}
        hanging[strike].set_exception(DecoderTimeout("not decoded within 60 s"))
        ward.turns(1)
    assert ward.states()["a"] == "failed"
    assert ward.column("SELECT reason FROM failures") == ["quarantined"]
    assert ward.column("SELECT strikes FROM files WHERE file = 'a.jpg'") == [3]


def test_the_twin_of_a_film_that_hangs_is_screened_once_with_it(ward, hanging):
    ward.drop(a=b"slow")
    ward.turns()
    ward.drop(twin=b"slow")
    ward.turns()
    for future in hanging:
        future.set_result(examined_film(b"slow"))
    ward.turns(1)
    assert Counter(ward.states().values()) == {"screened": 1, "duplicate": 1}
    assert ward.column("SELECT count(*) FROM screenings") == [1]


def test_a_stop_does_not_wait_for_it_and_blames_it_for_nothing(ward, hanging):
    ward.drop(a=b"slow")
    ward.turns()
    ward.daemon.finish_up()
    end_run(ward.engine, ward.run_id, ward.noon)
    assert ward.states() == {"a": "waiting"}
    assert ward.column("SELECT strikes + worker_deaths FROM files") == [0]
    ward.restart()
    ward.daemon.recover()
    ward.turns(1)
    hanging[-1].set_result(examined_film(b"slow"))
    ward.turns(1)
    assert ward.states() == {"a": "screened"}


def test_trouble_while_it_hangs_loses_nothing(ward, hanging, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    ward.drop(a=b"slow", b=b"1")
    ward.turns()
    ward.drop(c=b"2")
    with monkeypatch.context() as trouble:
        trouble.setattr("worker.pipeline.write_pictures", full)
        with pytest.raises(OSError, match="No space"):
            ward.turns()
    ward.turns(1)
    hanging[-1].set_result(examined_film(b"slow"))
    ward.turns(2)
    assert ward.states() == {"a": "screened", "b": "screened", "c": "screened"}
    assert ward.column("SELECT sum(strikes) + sum(worker_deaths) FROM files") == [0]


def test_a_film_that_is_being_predicted_does_not_lag(ward, hanging, monkeypatch):
    """A slow network is no hanging decoder: its films would be set aside without end."""
    monkeypatch.setattr("worker.decoding._LAGS_AFTER", 2)
    beats = []
    monkeypatch.setattr(ward.daemon._pipeline._decoding, "_alive", lambda: beats.append(1))
    ward.drop(a=b"slow")

    def predict():
        while not hanging:
            time.sleep(0.01)
        hanging[0].set_running_or_notify_cancel()
        time.sleep(0.3)  # many times as long as a decoder may lag here
        beats.append("predicted")
        hanging[0].set_result(examined_film(b"slow"))

    thread = threading.Thread(target=predict)
    thread.start()
    ward.turns()
    thread.join()
    assert ward.states() == {"a": "screened"}
    assert len(hanging) == 1
    before = beats[: beats.index("predicted")]
    assert len(before) < 5  # a device that hangs must not seem alive
