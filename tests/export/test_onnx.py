"""ONNX files, opened by onnxruntime, answer real films as torch does."""

import pytest

from worker.export.formats import FORMATS
from worker.export.parity import compare, is_alike
from worker.inference.portable import Portable

ONNX = FORMATS["onnx"]


@pytest.fixture(scope="session")
def contents(shipped):
    return ONNX.code.convert(Portable(shipped), shipped.card, None)


def test_it_answers_real_films_as_torch_does(contents, shipped, real_films, expected):
    found = ONNX.code.open_runtime(contents, 1)(real_films)
    parity = compare(found, expected, shipped.card, "real")
    assert parity.films == len(real_films)
    assert is_alike(parity), parity


def test_one_film_or_several_get_the_same_answers(contents, real_films):
    runtime = ONNX.code.open_runtime(contents, 1)
    together, alone = runtime(real_films[:3]), runtime(real_films[2:3])
    assert together.heat_map[2] == pytest.approx(alone.heat_map[0], abs=1e-4)
    assert together.probability[2] == pytest.approx(alone.probability[0], abs=1e-5)
