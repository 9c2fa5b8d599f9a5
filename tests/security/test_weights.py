"""Weights are what their card says, or nothing is screened."""

import hashlib
import io
import json
import os
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load, save

from models.cards import read_card
from models.errors import ModelError
from models.registry import load_model


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the tiny model to be harmed."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def edit_card(model, **parts):
    """Change the card; a dictionary changes keys of a part."""
    card = json.loads((model / "card.json").read_text())
    for name, value in parts.items():
        card[name] = card[name] | value if isinstance(value, dict) else value
    (model / "card.json").write_text(json.dumps(card))


def put(model, data):
    """Exchange the weights, and the card's hash with them: only the content can give it away."""
    (model / "weights.safetensors").write_bytes(data)
    edit_card(model, weights={"sha256": hashlib.sha256(data).hexdigest()})


def tensors(model):
    return load((model / "weights.safetensors").read_bytes())


def test_a_whole_model_is_loaded(model):
    assert load_model(model).card.name == "tiny"


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_flipped_bit_is_found(model, place):
    path = model / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(model)


def test_a_card_with_another_hash_is_refused(model):
    edit_card(model, weights={"sha256": "00" * 32})
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(model)


def test_a_missing_tensor_is_named(model):
    some = tensors(model)
    del some[next(n for n in some if n.startswith("net.") and n.endswith("weight"))]
    put(model, save(some))
    with pytest.raises(ModelError, match="do not fit the architecture"):
        load_model(model)


@pytest.mark.parametrize("prefix", ["net.", "guard."])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(model, prefix, number):
    """A score that is no number was below every threshold: NORMAL, and the guard was silent."""
    some = tensors(model)
    name = next(n for n, t in some.items() if n.startswith(prefix) and t.is_floating_point())
    some[name] = torch.full_like(some[name], number)
    put(model, save(some))
    with pytest.raises(ModelError, match="not finite"):
        load_model(model)


def pickled():
    file = io.BytesIO()
    torch.save({"net.x": torch.zeros(1)}, file)
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights", b"1")
    return file.getvalue()


@pytest.mark.parametrize("data", [pickled(), zipped(), b"", b"\xff" * 64], ids=range(4))
def test_what_is_no_safetensors_is_refused_whatever_its_name(model, data):
    put(model, data)
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_model(model)


def test_a_link_is_no_weights_file(model, tiny_model):
    path = model / "weights.safetensors"
    path.unlink()
    path.symlink_to(tiny_model / "weights.safetensors")
    with pytest.raises(ModelError, match="a link"):
        load_model(model)


def test_a_pipe_is_refused_instead_of_waited_for(model):
    path = model / "weights.safetensors"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModelError, match="no regular file"):
        load_model(model)


@pytest.mark.parametrize("name", ["../weights.safetensors", "/dev/zero", ".hidden", "a/b", ""])
def test_a_card_cannot_name_weights_elsewhere(model, name):
    edit_card(model, weights={"file": name})
    with pytest.raises(ModelError, match=r"weights\.file"):
        load_model(model)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("decision", {"threshold": 1.5}),
        ("decision", {"threshold": float("nan")}),
        ("decision", {"threshold": 0.1, "indeterminate": [0.5, 0.7]}),
        ("decision", {"indeterminate": [0.7, 0.5]}),
        ("guard", {"threshold": -1}),
        ("calibration", {"slope": -1}),
        ("calibration", {"slope": float("inf")}),
        ("calibration", {"offset": float("nan")}),
        ("input", {"low_percentile": 99, "high_percentile": 1}),
        ("input", {"size_px": 10**6}),
        ("population", {"min_age_years": 5, "max_age_years": 1}),
        ("heat_map", {"evidence_scale": 0}),
    ],
)
def test_constants_that_make_no_sense_are_refused_by_name(model, part, values):
    edit_card(model, **{part: values})
    with pytest.raises(ModelError, match=part):
        read_card(model)


def test_nothing_is_screened_with_damaged_weights(model, tmp_path, screen, sample_films):
    with (model / "weights.safetensors").open("ab") as file:
        file.write(b"1")
    film = next((sample_films / "NORMAL").iterdir())
    refused = screen("classify", film, "--model", model, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "SHA-256" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
