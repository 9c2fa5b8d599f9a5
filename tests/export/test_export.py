"""`screen export` and the engines that run its files: what is refused, and what is said then."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.cards import card_of, read_card
from models.errors import ModelError
from models.exports import read_export
from models.registry import load_model
from worker.config import Model
from worker.errors import ConfigError, ExportFailed, UsageError
from worker.export import onnx as onnx_format
from worker.export.engine import start_engine
from worker.export.films import noise
from worker.export.formats import FORMATS
from worker.export.names import NAMES
from worker.export.run import ExportRequest, export
from worker.filesystem import write_new

ONNX = FORMATS["onnx"]


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    """The tiny model in ONNX and OpenVINO, in one folder: format → main file."""
    out = tmp_path_factory.mktemp("made")
    return {
        name: export(model, ExportRequest(FORMATS[name], out)).files[0]
        for name in ("onnx", "openvino")
    }


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the ONNX export, to be harmed."""
    shutil.copytree(made["onnx"].parent, tmp_path / "copy")
    return tmp_path / "copy" / "tiny.onnx"


def edit_card(path, **parts):
    card_of(path).write_text(json.dumps(json.loads(card_of(path).read_text()) | parts))


# Making one


def test_nothing_is_written_over(model, copy):
    before = copy.read_bytes()
    with pytest.raises(UsageError, match="there already"):
        export(model, ExportRequest(ONNX, copy.parent))
    assert copy.read_bytes() == before


def test_a_card_alone_is_not_written_over_either(model, copy):
    copy.unlink()
    with pytest.raises(UsageError, match=r"card\.json is there already"):
        export(model, ExportRequest(ONNX, copy.parent))


def test_of_two_exports_at_once_one_is_kept_whole(model, tmp_path, monkeypatch):
    def first(files, mode):
        for path in files:
            path.write_bytes(b"of the other")
        write_new(files, mode)

    monkeypatch.setattr("worker.export.run.write_new", first)
    with pytest.raises(UsageError, match="there already"):
        export(model, ExportRequest(ONNX, tmp_path))
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert there == dict.fromkeys(("tiny.onnx", "tiny.onnx.card.json"), b"of the other")


def test_a_missing_package_is_named_with_its_extra(model, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.export.formats.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"needs onnx.*pip install 'cxr-screen\[onnx\]'"):
        export(model, ExportRequest(ONNX, tmp_path))
    openvino = ExportRequest(FORMATS["openvino"], tmp_path)
    with pytest.raises(UsageError, match=r"cxr-screen\[openvino\]"):
        export(model, openvino)


def test_what_quantising_needs_has_an_extra_of_its_own(model, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.export.formats.find_spec", lambda name: name != "nncf" or None)
    with pytest.raises(UsageError, match=r"needs nncf.*cxr-screen\[openvino-int8\]"):
        export(model, ExportRequest(FORMATS["openvino"], tmp_path, int8=True))


def test_int8_wants_real_films(model, tmp_path):
    with pytest.raises(UsageError, match="--films"):
        export(model, ExportRequest(ONNX, tmp_path, int8=True))


class Wrong(onnx_format.OnnxRuntime):
    """A runtime that answers a little otherwise."""

    def __call__(self, films):
        found = super().__call__(films)
        return found._replace(probability=found.probability + 0.02)


def test_a_float32_export_that_answers_otherwise_is_not_kept(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "OnnxRuntime", Wrong)
    with pytest.raises(ExportFailed, match="answers otherwise than its model"):
        export(model, ExportRequest(ONNX, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_network_that_a_converter_cannot_take_is_an_error_in_one_line(
    model, tmp_path, monkeypatch
):
    def refuse(*_):
        raise RuntimeError("no such operation\nand much more")

    monkeypatch.setattr(onnx_format, "_exported", refuse)
    with pytest.raises(ExportFailed, match=r"onnx cannot take tiny .*no such operation$"):
        export(model, ExportRequest(ONNX, tmp_path))


def test_an_export_is_no_source_of_another(copy):
    with pytest.raises(ModelError, match="name the model that it was made from"):
        load_model(copy)


@pytest.mark.slow
def test_converting_reports_to_nobody(tiny_model):
    """OpenVINO and NNCF send events, unless their telemetry cannot be imported."""
    program = (
        "import socket, sys\n"
        "from pathlib import Path\n"
        "def refuse(*_): raise SystemExit('a socket was opened')\n"
        "socket.socket.__init__ = refuse\n"
        "from models.registry import load_model\n"
        "from worker.export.films import noise\n"
        "from worker.export.formats import FORMATS\n"
        "from worker.inference.portable import Portable\n"
        "model = load_model(Path(sys.argv[1]))\n"
        "for name in ('onnx', 'openvino'):\n"
        "    films = noise(model.card.input.size_px)[:2]\n"
        "    code = FORMATS[name].code\n"
        "    code.open_runtime(code.convert(Portable(model), model.card, films), 1)(films)\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert 'MagicMock' in str(type(sys.modules['nncf'].telemetry.telemetry))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tiny_model)], check=True, timeout=280)


# Running one


def test_one_flipped_bit_is_found(copy):
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        read_export(copy)


def test_the_second_file_is_checked_too(made, tmp_path):
    shutil.copytree(made["openvino"].parent, tmp_path / "copy")
    (tmp_path / "copy" / "tiny.bin").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"tiny\.bin has SHA-256"):
        read_export(tmp_path / "copy" / "tiny.xml")


def test_a_link_is_not_read(copy):
    copy.rename(copy.with_name("elsewhere"))
    copy.symlink_to("elsewhere")
    with pytest.raises(ModelError, match="link"):
        read_export(copy)


def test_a_file_without_its_card_is_no_model(copy):
    copy.with_name("tiny.onnx.card.json").unlink()
    with pytest.raises(ModelError, match=r"no tiny\.onnx\.card\.json beside it"):
        read_export(copy)


def test_the_card_of_another_file_is_not_taken(copy, made):
    shutil.copy(card_of(made["openvino"]), card_of(copy))
    with pytest.raises(ModelError, match=r"is of tiny\.xml"):
        read_export(copy)


def test_a_card_whose_parts_contradict_each_other_is_refused(copy):
    edit_card(copy, weights={"file": "tiny.onnx", "sha256": "00" * 32})
    with pytest.raises(ModelError, match=r"does not name tiny\.onnx"):
        read_export(copy)


@pytest.fixture(scope="module")
def by_torch(screen, tiny_model, sample_films, tmp_path_factory):
    """What `classify` says of the sample films by torch, in float32 too."""
    desk = tmp_path_factory.mktemp("desk")
    (desk / "config.toml").write_text("[model]\nprecision = 'float32'\n")
    return records(
        screen("classify", sample_films, "--json", "--model", tiny_model, cwd=desk),
    )


def records(ended):
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize("says_engine", [True, False])
def test_classify_answers_by_an_exported_file_as_by_torch(
    name, says_engine, made, by_torch, screen, sample_films, tmp_path
):
    engine = ("--engine", name) if says_engine else ()
    found = records(
        screen("classify", sample_films, "--json", "--model", made[name], *engine, cwd=tmp_path)
    )
    sha256 = read_card(made[name]).weights.sha256
    assert len(found) == len(by_torch) == 16
    for one, other in zip(found, by_torch, strict=True):
        assert one["weights_sha256"] == sha256 != other["weights_sha256"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
        assert one["guard_score"] == pytest.approx(other["guard_score"], abs=1e-4)
        same = ("file", "decision", "reason", "threshold", "model")
        assert [one[key] for key in same] == [other[key] for key in same]
    assert len({one["decision"] for one in found}) > 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--engine", "onnx"), "screen export kermany-mobilenet-v2 --format onnx"),
        (("--engine", "torch", "--model", "{onnx}"), "set engine = 'onnx'"),
        (("--engine", "openvino", "--model", "{onnx}"), "set engine = 'onnx'"),
        (("--model", "{film}"), "as 'screen export' writes it"),
    ],
)
def test_what_does_not_fit_is_said(options, says, made, screen, sample_films, tmp_path):
    film = next(sample_films.rglob("*.jpeg"))
    given = [each.format(onnx=made["onnx"], film=film) for each in options]
    ended = screen("classify", film, *given, cwd=tmp_path)
    assert ended.returncode in {1, 2}
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_site_screens_by_an_exported_file(made, screen, sample_films, tmp_path):
    screen("init", "site", cwd=tmp_path)
    site = tmp_path / "site"
    (site / "config.toml").write_text(
        "[decode]\nprocesses = 2\n"
        f"[model]\nname = '{made['onnx']}'\nengine = 'onnx'\n[watch]\nsettle_s = 0.2\n"
    )
    for film in sorted((sample_films / "PNEUMONIA").iterdir())[:3]:
        shutil.copy(film, site / "inbox")
    ended = screen("watch", "--once", cwd=site)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(screen("query", "--json", cwd=site).stdout)
    assert {each["status"] for each in found} == {"screened"}
    assert {each["weights_sha256"] for each in found} == {read_card(made["onnx"]).weights.sha256}
    assert all((site / "reports" / each["page"]).is_file() for each in found)
    assert "tiny on cpu, ONNX Runtime" in screen("doctor", cwd=site).stdout
    assert "exported for  onnx, float32" in screen("models", "list", cwd=site).stdout


def test_a_threshold_of_the_original_is_not_taken_over(made, tiny_model):
    from worker.thresholds import scale_of

    assert scale_of(read_card(made["onnx"])) != scale_of(read_card(tiny_model))


def test_verify_checks_every_file_of_an_export(made, copy, screen, tmp_path):
    good = screen("models", "verify", made["onnx"], made["openvino"], cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    copy.write_bytes(copy.read_bytes()[:-1])
    bad = screen("models", "verify", copy, cwd=tmp_path)
    assert bad.returncode == 1
    assert "SHA-256" in bad.stderr


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_threads_that_ask_one_engine_at_once_get_each_the_answer_to_its_film(made, name):
    engine = start_engine(read_export(made[name]), Model(engine=name), cores=4)
    films = noise(read_card(made[name]).input.size_px)[:, None]
    alone = [engine.predict(film)[0] for film in films]
    assert len({one.probability for one in alone}) == len(films)
    with ThreadPoolExecutor(8) as pool:
        rounds = list(pool.map(lambda film: engine.predict(film)[0], [*films] * 20))
    for found, expected in zip(rounds, alone * 20, strict=True):
        assert found.probability == expected.probability
        assert (found.evidence == expected.evidence).all()


def test_an_engine_that_is_not_installed_is_named_with_its_extra(made, monkeypatch):
    monkeypatch.setattr("worker.export.formats.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"onnxruntime.*cxr-screen\[onnx\]"):
        start_engine(read_export(made["onnx"]), Model(engine="onnx"))


def test_an_answer_that_is_not_finite_is_no_answer(made, monkeypatch):
    engine = start_engine(read_export(made["onnx"]), Model(engine="onnx"))
    size_px = read_card(made["onnx"]).input.size_px
    with pytest.raises(FloatingPointError):
        engine.predict(np.full((1, size_px, size_px), np.nan, np.float32))


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Model(engine="onnx", device="cuda"), "device = 'cpu'"),
        (Model(engine="onnx", precision="bfloat16"), "precision = 'auto'"),
    ],
)
def test_a_device_or_precision_that_it_cannot_have_is_said(wanted, says, made):
    with pytest.raises(ConfigError, match=says):
        start_engine(read_export(made["onnx"]), wanted)


def test_a_format_that_does_not_screen_here_is_said(copy):
    about = read_card(copy).export.model_dump(mode="json") | {"format": "litert"}
    edit_card(copy, export=about)
    with pytest.raises(ConfigError, match="does not screen here"):
        start_engine(read_export(copy), Model(engine="onnx"))


def test_the_command_line_knows_the_formats_by_name():
    assert tuple(FORMATS) == NAMES
