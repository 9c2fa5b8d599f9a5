"""The optional engine decides as torch does, reports to nobody, and says what it lacks."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from models.registry import find_model, load_model
from worker.config import load_config
from worker.errors import ConfigError
from worker.imaging.decode import decode
from worker.imaging.prepare import model_input
from worker.inference import openvino_network
from worker.inference.decide import decide
from worker.inference.engine import Engine
from worker.inference.openvino_network import is_installed
from worker.records import Tags
from worker.screening import Screener

pytestmark = pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def model():
    return load_model(find_model("default"))


@pytest.fixture(scope="module")
def engine(model):
    return Engine(model, runtime="openvino")


@pytest.fixture(scope="module")
def films(model, sample_films):
    """All sample films and each as a negative, float32 (N, S, S)."""
    constants = model.card.input
    low, high = constants.low_percentile, constants.high_percentile
    films = [
        model_input(decode(path.read_bytes()).pixels, constants.size_px, low, high)
        for path in sorted(sample_films.rglob("*.jpeg"))
    ]
    return np.stack([*films, *(1 - film for film in films)])


def test_it_decides_as_torch_does_on_real_films(engine, model, films):
    found, expected = engine.predict(films), Engine(model, "cpu").predict(films)
    for one, other in zip(found, expected, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-4)
        assert one.guard_score == pytest.approx(other.guard_score, abs=1e-4)
        assert one.not_chest_score == pytest.approx(other.not_chest_score, abs=1e-4)
        np.testing.assert_allclose(one.evidence, other.evidence, atol=1e-3)
        verdicts = [decide(each, model.card, None, Tags(), "refuse") for each in (one, other)]
        assert verdicts[0] == verdicts[1]
    assert np.std([each.probability for each in found]) > 0.1  # else anything would agree


def test_the_ensemble_too(films):
    model = load_model(find_model("kermany-ensemble"))
    found = Engine(model, runtime="openvino").predict(films[:4])
    expected = Engine(model, "cpu").predict(films[:4])
    assert [each.probability for each in found] == pytest.approx(
        [each.probability for each in expected], abs=1e-4
    )


def test_threads_at_once_get_each_their_own_answer(engine, films):
    expected = [each.probability for each in engine.predict(films)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda film: engine.predict(film[None])[0].probability, films))
    assert found == expected


def test_a_site_that_asks_for_it_gets_it(tmp_path, sample_films):
    (tmp_path / "config.toml").write_text('[model]\nengine = "openvino"\n')
    with closing(Screener(load_config(tmp_path / "config.toml"))) as screener:
        assert screener.engine.place == "cpu, OpenVINO"
        path = sorted(sample_films.rglob("*.jpeg"))[0]
        assert 0 <= screener.examine(path).result(60).prediction.probability <= 1


def test_nothing_is_reported_to_its_makers():
    """Importing OpenVINO sends an event, unless its telemetry cannot be imported."""
    program = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('a socket was opened')\n"
        "socket.socket.__init__ = refuse\n"
        "from worker.inference.openvino_network import openvino_library\n"
        "openvino_library()\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__.endswith('telemetry_stub')\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_where_it_is_missing_the_error_names_the_extra(model, monkeypatch):
    monkeypatch.setattr(openvino_network, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"cxr-screen\[openvino\]"):
        Engine(model, runtime="openvino")


def test_a_network_that_openvino_cannot_take_is_a_matter_of_configuration(model, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(openvino_network, "_converted", refuse)
    with pytest.raises(ConfigError, match="cannot take this network"):
        Engine(model, runtime="openvino")


def test_it_is_not_taken_for_a_gpu(model):
    with pytest.raises(ConfigError, match=r"model\.device = 'cuda'"):
        Engine(model, "cuda", runtime="openvino")


def test_a_heat_map_by_gradient_needs_torch(model, monkeypatch):
    for member in model.network.members:
        monkeypatch.setattr(type(member), "is_closed_form", property(lambda _: False))
    with pytest.raises(ConfigError, match="backward pass"):
        Engine(model, runtime="openvino")


def test_a_film_that_is_not_finite_gets_no_answer(engine, films):
    with pytest.raises(FloatingPointError, match="a film"):
        engine.predict(np.full_like(films[:1], np.nan))
