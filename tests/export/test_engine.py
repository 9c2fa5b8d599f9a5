"""The engine of exported files: what it makes of films, answers and files that are none."""

import numpy as np
import pytest

from models.exports import ExportedModel
from tests.standin import exported_card, make_card
from worker.config import Model
from worker.errors import ConfigError
from worker.export import openvino
from worker.export.engine import start_engine
from worker.inference.portable import Answers


def exported(name, *contents):
    """A verified export with these contents."""
    card = exported_card(name, others=("weights.bin",) if name == "openvino" else ())
    return ExportedModel(card, card.export, contents)


@pytest.fixture
def engine(monkeypatch):
    """An engine whose runtime answers with numbers, whatever the films hold, as clamps do."""

    def answers(films):
        scores = np.full(len(films), 0.25, np.float32)
        return Answers(scores, np.zeros((len(films), 2, 2), np.float32), scores, scores)

    monkeypatch.setattr(openvino, "open_runtime", lambda *_: answers)
    monkeypatch.setattr("worker.export.formats.find_spec", lambda _: True)
    return start_engine(exported("openvino"), Model(engine="openvino"))


def test_a_card_names_the_file_that_is_opened_first():
    """Else another file would answer than the one that results name."""
    about = exported("openvino").about.model_dump()
    about["files"] = {"other.xml": "ef" * 32, **about["files"]}
    with pytest.raises(ValueError, match=r"does not name weights\.safetensors first"):
        make_card(export=about)


@pytest.mark.parametrize("others", [(), ("a.bin", "b.bin")])
def test_a_card_names_as_many_files_as_the_format_has(others):
    card = exported_card("openvino", others=others)
    model = ExportedModel(card, card.export, (b"",) * (1 + len(others)))
    with pytest.raises(ConfigError, match=f"names {1 + len(others)} files.*has 2"):
        start_engine(model, Model(engine="openvino"))


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_a_film_that_is_not_finite_gets_no_answer(spoiled, engine):
    films = np.zeros((2, 8, 8), np.float32)
    assert len(engine.predict(films)) == 2
    films[1, 3, 3] = spoiled
    with pytest.raises(FloatingPointError, match="a film"):
        engine.predict(films)


@pytest.mark.parametrize(
    ("name", "contents"),
    [("onnx", (b"of a newer kind",)), ("openvino", (b"of a newer kind", b""))],
)
def test_a_file_that_its_runtime_cannot_open_is_said(name, contents):
    with pytest.raises(ConfigError, match="cannot open it"):
        start_engine(exported(name, *contents), Model(engine=name))
