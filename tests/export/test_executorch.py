"""ExecuTorch files, opened by ExecuTorch's own runtime, answer real films as torch does."""

import subprocess
import sys

import numpy as np
import pytest

from models.architectures import FAMILIES
from tests.export.models import PX, random_model
from worker.export.films import noise
from worker.export.formats import FORMATS
from worker.export.parity import answers_of, compare, is_alike
from worker.inference.engine import Engine
from worker.inference.portable import Portable

EXECUTORCH = FORMATS["executorch"]
MOST_INT8 = 0.1  # of probability and guard score, calibrated on these films: 0.03 was measured


@pytest.fixture(scope="session")
def contents(shipped):
    return EXECUTORCH.code.convert(Portable(shipped), shipped.card, None)


def test_it_answers_real_films_as_torch_does(contents, shipped, real_films, expected):
    parity = compare(
        EXECUTORCH.code.open_runtime(contents, 1)(real_films), expected, shipped.card, "real"
    )
    assert parity.films == len(real_films)
    assert is_alike(parity), parity


def test_answers_stay_when_the_next_film_is_asked(contents, real_films):
    runtime = EXECUTORCH.code.open_runtime(contents, 1)
    first = runtime(real_films[:1])
    kept = first.heat_map.copy()
    runtime(real_films[1:2])
    np.testing.assert_array_equal(first.heat_map, kept)


@pytest.mark.slow
def test_int8_is_a_third_as_large_and_the_guard_decides_alike(
    contents, shipped, real_films, expected
):
    small = EXECUTORCH.code.convert(Portable(shipped), shipped.card, real_films[::2])
    assert len(small[0]) < 0.4 * len(contents[0])
    found = EXECUTORCH.code.open_runtime(small, 1)(real_films)
    parity = compare(found, expected, shipped.card, "real")
    assert parity.probability > 0, "nothing was quantised"
    assert max(parity.probability, parity.guard_score) < MOST_INT8, parity
    assert parity.forced_choices_changed == parity.guard_decisions_changed == 0


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in FAMILIES if name != "convnext_tiny"])
def test_every_architecture_answers_as_torch_does(architecture):
    model, films = random_model(architecture), noise(PX)[:6]
    contents = EXECUTORCH.code.convert(Portable(model), model.card, None)
    expected = answers_of(Engine(model, "cpu", "float32"), films)
    found = EXECUTORCH.code.open_runtime(contents, 1)(films)
    parity = compare(found, expected, model.card, "noise")
    assert is_alike(parity), parity


@pytest.mark.slow
def test_convnext_is_no_network_for_xnnpack():
    """Its gradient through layer normalisation comes to an end that executorch 1.5 cannot split."""
    model = random_model("convnext_tiny")
    with pytest.raises(RuntimeError, match="not supported in XNNPACK"):
        EXECUTORCH.code.convert(Portable(model), model.card, None)


def test_nobody_is_asked_over_the_network():
    """What it brings could fetch models from a hub."""
    program = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('a socket was connected')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import executorch.exir, executorch.runtime\n"
        "import executorch.backends.xnnpack.partition.xnnpack_partitioner\n"
        "import executorch.backends.xnnpack.quantizer.xnnpack_quantizer\n"
        "import torchao.quantization.pt2e.quantize_pt2e\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240)
