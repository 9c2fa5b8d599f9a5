"""The models that come with the program, exported for ONNX Runtime and OpenVINO, on real films."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from models.cards import read_card
from models.exports import read_export
from worker.export.formats import FORMATS
from worker.export.parity import compare, is_alike
from worker.export.run import ExportRequest, export

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # for each model, four conversions

NAMES = ("onnx", "openvino")
_FILMS = Path(__file__).resolve().parents[1] / "films"


@pytest.fixture(scope="module")
def written(shipped, tmp_path_factory):
    """Both formats in float32 and int8, as the command writes them: (format, int8) → `Exported`."""
    out = tmp_path_factory.mktemp("exports")
    return {
        (name, int8): export(shipped, ExportRequest(FORMATS[name], out, int8, _FILMS))
        for name in NAMES
        for int8 in (False, True)
    }


def opened(exported):
    model = read_export(exported.files[0])
    return FORMATS[model.about.format].code.open_runtime(model.contents, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_real_film_gets_the_answer_of_torch(name, written, shipped, real_films, expected):
    found = opened(written[name, False])(real_films)
    parity = compare(found, expected, shipped.card, "real")
    assert parity.films == len(real_films) == 32
    assert is_alike(parity), parity
    known = expected.guard_score <= shipped.card.guard.threshold
    assert known[:16].all()
    assert not known[16:].any()  # the guard went along: films on their side are refused


@pytest.mark.parametrize("name", NAMES)
def test_int8_is_a_third_as_large_and_its_guard_decides_alike(
    name, written, shipped, real_films, expected
):
    sizes = [
        sum(path.stat().st_size for path in written[name, int8].files[:-1])
        for int8 in (False, True)
    ]
    assert sizes[1] < 0.45 * sizes[0]
    found = opened(written[name, True])(real_films)
    parity = compare(found, expected, shipped.card, "real")
    assert parity.guard_decisions_changed == 0
    assert parity.guard_score < 0.05
    assert parity.forced_choices_changed <= 1
    assert np.abs(found.probability - expected.probability)[:16].max() < 0.06
    assert parity.probability > 1e-4  # it is int8, and no float32 under another name


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_what_it_is_and_where_it_came_from(name, int8, written, shipped):
    exported = written[name, int8]
    card = read_card(exported.files[0])
    assert card == exported.card
    about = card.export
    assert (about.format, about.precision) == (name, "int8" if int8 else "float32")
    assert about.source_sha256 == shipped.card.weights.sha256 != card.weights.sha256
    assert list(about.files) == [path.name for path in exported.files[:-1]]
    assert "torch" in about.made_with
    assert about.parity.films == (8 if int8 else 16)
    same = {"labels", "input", "calibration", "decision", "guard", "population", "heat_map"}
    assert card.model_dump(include=same) == shipped.card.model_dump(include=same)


@pytest.mark.parametrize("int8", [False, True])
def test_a_lone_file_still_says_its_thresholds(int8, written, shipped):
    import onnxruntime

    session = onnxruntime.InferenceSession(written["onnx", int8].files[0])
    cards = [json.loads(session.get_modelmeta().custom_metadata_map["screen.card"])]
    info = ET.parse(written["openvino", int8].files[0]).find("rt_info/screen/card")
    cards.append(json.loads(info.get("value")))
    for card in cards:
        assert card["decision"]["threshold"] == shipped.card.decision.threshold
        assert card["weights"]["sha256"] == shipped.card.weights.sha256


def test_a_file_tells_nothing_of_the_machine_that_made_it(written):
    for exported in written.values():
        for path in exported.files:
            content = path.read_bytes()
            assert b"site-packages" not in content
            assert str(_FILMS.parents[1]).encode() not in content
