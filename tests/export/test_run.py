"""What `screen export` refuses, without converting anything."""

import hashlib
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest

from tests.standin import make_card
from worker.errors import ExportFailed, UsageError
from worker.export import openvino
from worker.export.formats import FORMATS
from worker.export.parity import compare, is_alike
from worker.export.run import ExportRequest, _compared, export
from worker.inference.portable import Answers


def test_answers_that_are_not_finite_are_not_kept():
    scores = np.array([0.25, np.nan], np.float32)
    answers = Answers(scores, np.zeros((2, 2, 2), np.float32), scores, scores)
    code = SimpleNamespace(open_runtime=lambda *_, **__: lambda _: answers)
    with pytest.raises(ExportFailed, match="not finite"):
        _compared(None, SimpleNamespace(code=code), (), np.zeros((2, 8, 8), np.float32), "noise")


def test_a_map_of_one_cell_may_differ_by_rounding_and_no_more():
    scores = np.array([0.25], np.float32)
    expected = Answers(scores, np.ones((1, 1, 1), np.float32), scores, scores)
    for apart, alike in ((1e-5, True), (1e-2, False)):
        found = expected._replace(heat_map=expected.heat_map + np.float32(apart))
        assert is_alike(compare(found, expected, make_card(), "noise")) is alike


@pytest.mark.parametrize("name", ["two words", "Säugling", "n" * 130])
def test_a_name_that_no_file_may_have_is_said_before_the_work(name, tmp_path):
    model = SimpleNamespace(card=make_card(name=name))
    with pytest.raises(UsageError, match="another name"):
        export(model, ExportRequest(FORMATS["onnx"], tmp_path))


def test_an_openvino_xml_names_its_weights(monkeypatch):
    """Its SHA-256 is what results name: with other weights it must be another."""
    library = openvino.openvino_library()
    films = library.opset13.parameter([1, 2], np.float32)
    added = library.opset13.add(films, np.array([[1, 2]], np.float32))
    network = library.Model([added], [films], "two")
    monkeypatch.setattr(openvino, "_converted", lambda *_: network)
    xml, weights = openvino.convert(None, make_card(), None)
    assert hashlib.sha256(weights).hexdigest().encode() in xml
    assert ET.fromstring(xml).find("rt_info/screen/card") is not None


def test_litert_is_installed_in_an_environment_of_its_own(monkeypatch):
    monkeypatch.setattr("worker.export.formats.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="an environment of its own"):
        FORMATS["litert"].require_converter(int8=False)
