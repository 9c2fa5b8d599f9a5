"""LiteRT files, made in the environment that can, answer real films as torch does in this one."""

import os
import subprocess

import pytest

from models.architectures import FAMILIES
from models.exports import read_export
from tests.conftest import REPOSITORY
from tests.export.models import PX, random_model
from worker.export.films import noise
from worker.export.formats import FORMATS
from worker.export.parity import answers_of, compare, is_alike
from worker.inference.engine import Engine

LITERT = FORMATS["litert"]
MOST_INT8 = 0.15  # of probability and guard score, calibrated on 8 films: 0.06 was measured


@pytest.fixture(scope="session")
def litert_python():
    """Runs Python with litert-torch, which does not install beside what the tests use."""
    python = REPOSITORY / ".venv-litert" / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{python} is not there: make .venv-litert/installed")

    def run(*arguments):
        subprocess.run(
            [python, *map(str, arguments)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=1200,
        )

    return run


@pytest.fixture(scope="session")
def exported(litert_python, shipped, sample_films, tmp_path_factory):
    """Export a shipped model with the given options, read it back."""

    def export(*options):
        out, name = tmp_path_factory.mktemp("litert"), shipped.card.name
        arguments = ("--format", "litert", "--out", out, "--films", sample_films, *options)
        litert_python("-m", "worker", "export", name, *arguments)
        (file,) = out.glob("*.tflite")
        return read_export(file)

    return export


@pytest.fixture(scope="session")
def float32(exported):
    return exported()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_it_answers_real_films_as_torch_does(float32, shipped, real_films, expected):
    found = LITERT.code.open_runtime(float32.contents, 1)(real_films)
    parity = compare(found, expected, shipped.card, "real")
    assert parity.films == len(real_films)
    assert is_alike(parity), parity


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_card_names_what_made_it(float32, shipped):
    assert float32.about.format == "litert"
    assert float32.about.source_sha256 == shipped.card.weights.sha256
    assert {"litert_torch", "torch"} <= float32.about.made_with.keys()
    assert is_alike(float32.about.parity)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_int8_is_smaller_and_the_guard_decides_alike(
    exported, float32, shipped, real_films, expected
):
    small = exported("--int8")
    assert len(small.contents[0]) < 0.45 * len(float32.contents[0])
    found = LITERT.code.open_runtime(small.contents, 1)(real_films)
    parity = compare(found, expected, shipped.card, "real")
    assert parity.probability > 0, "nothing was quantised"
    assert max(parity.probability, parity.guard_score) < MOST_INT8, parity
    assert parity.forced_choices_changed == parity.guard_decisions_changed == 0


@pytest.fixture(scope="session")
def families(litert_python, tmp_path_factory):
    out = tmp_path_factory.mktemp("families")
    litert_python("-m", "tests.export.litert_families", out)
    return out


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_architecture_answers_as_torch_does(architecture, families):
    model, films = random_model(architecture), noise(PX)[:6]
    content = (families / f"{architecture}.tflite").read_bytes()
    found = LITERT.code.open_runtime((content,), 1)(films)
    expected = answers_of(Engine(model, "cpu", "float32"), films)
    parity = compare(found, expected, model.card, "noise")
    assert is_alike(parity), parity


@pytest.mark.slow
def test_nobody_is_asked_over_the_network(litert_python):
    """What it brings could fetch models from two hubs."""
    program = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('a socket was connected')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import litert_torch, ai_edge_quantizer.quantizer\n"
    )
    litert_python("-c", program)
