"""An int8 file's heat maps, which may be far off, are never drawn without saying so."""

import json
import shutil

import pytest

from models.cards import card_of, read_card
from models.registry import load_model
from worker.export.formats import FORMATS
from worker.export.run import ExportRequest, export
from worker.report.site import model_facts


@pytest.fixture(scope="module")
def float32(tiny_model, tmp_path_factory):
    """The tiny model as ONNX."""
    request = ExportRequest(FORMATS["onnx"], tmp_path_factory.mktemp("made"))
    return export(load_model(tiny_model), request).files[0]


@pytest.fixture
def int8(float32, tmp_path):
    """The same, with the card of an int8 file."""
    file = shutil.copytree(float32.parent, tmp_path / "int8") / float32.name
    card = json.loads(card_of(file).read_text(encoding="utf-8"))
    card["export"]["precision"] = "int8"
    card_of(file).write_text(json.dumps(card), encoding="utf-8")
    return file


def test_overlays_are_refused_and_nothing_is_written(int8, screen, sample_films, tmp_path):
    asked = ("classify", sample_films / "NORMAL", "--engine", "onnx", "--model", int8)
    refused = screen(*asked, "--overlay", "overlays", cwd=tmp_path)
    assert refused.returncode == 2
    assert "int8 file, whose heat maps may be off" in refused.stderr
    assert not (tmp_path / "overlays").exists()
    assert screen(*asked, cwd=tmp_path).returncode == 0


def test_an_evaluation_s_page_shows_the_films_alone(int8, float32, screen, sample_films, tmp_path):
    shown = {}
    for file in (float32, int8):
        asked = ("evaluate", sample_films, "--engine", "onnx", "--model", file)
        done = screen(*asked, "--html", f"{file.parent.name}.html", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        page = (tmp_path / f"{file.parent.name}.html").read_text(encoding="utf-8")
        shown[file] = page.count("data:image/jpeg")
    assert shown[float32] == 2 * shown[int8] > 0


def test_report_pages_are_told(int8, float32):
    assert model_facts(read_card(int8)).is_int8
    assert not model_facts(read_card(float32)).is_int8
