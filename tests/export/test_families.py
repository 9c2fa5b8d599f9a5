"""Every architecture that a user may train can be exported, with its heat map and its guard."""

import numpy as np
import pytest
import torch

from models.architectures import FAMILIES
from tests.export.models import PX, random_model
from worker.export.films import noise
from worker.export.formats import FORMATS
from worker.export.parity import answers_of, compare, is_alike
from worker.inference.engine import Engine
from worker.inference.portable import Portable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FILMS = noise(PX)[:6]


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return random_model(request.param)


@pytest.fixture(scope="module")
def portable(model):
    return Portable(model)


@pytest.fixture(scope="module")
def expected(model):
    return answers_of(Engine(model, "cpu", "float32"), FILMS)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_it_answers_as_torch_does_in_any_number(name, model, portable, expected):
    code = FORMATS[name].code
    found = code.open_runtime(code.convert(portable, model.card, None), 1)(FILMS)
    parity = compare(found, expected, model.card, "noise")
    assert is_alike(parity), parity
    assert np.ptp(expected.heat_map, axis=(1, 2)).min() > 0.01  # else anything would agree
    assert np.ptp(expected.probability) > 0.01
    assert np.ptp(expected.guard_score) > 0.1


def test_the_whole_model_as_one_network_answers_as_its_parts_do(model, portable, expected):
    found = portable(torch.from_numpy(FILMS)[:, None])
    for one, other in zip(found, expected, strict=True):
        within = 1e-4 * (1 + np.ptp(other))  # numbers are rounded in another order
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-3, atol=within)
