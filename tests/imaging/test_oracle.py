"""Real films are decoded as they were, and as DCMTK and GDCM decode them."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.imaging import golden, peers
from worker.imaging.decode import decode
from worker.imaging.dicompixels import stored_values
from worker.imaging.syntaxes import JPEG_BASELINE, JPEG_EXTENDED

KNOWN = json.loads(golden.GOLDEN.read_text())
HERE = dict(golden.films())
# dcm2pnm draws the window that the file asks for; these have none, or one that shows nothing.
NO_WINDOW = {
    "chest/nih_00000001_000_dx_implicit.dcm",
    "chest/nih_nofinding_dx_implicit.dcm",
    "chest/rentgenprom_dx_mono2_polarity_trap_j2k.dcm",
    "chest/rsna_00aecb01_cr_ap_child6.dcm",
    "chest/rsna_16d7f894_cr_pa.dcm",
    "chest/rsna_16d7f894_tagged_mono1.dcm",
    "other/ct_scout_abdomen_ot.dcm",
}
UNREADABLE = {"other/wg04_tibia_JPLY.dcm"}  # 12-bit JPEG Extended: for the GPL decoder

each_film = pytest.mark.parametrize("name", KNOWN)


def film_of(name: str) -> Path:
    """Where a film lies; skips where it is absent."""
    if name not in HERE:
        pytest.skip(f"no {name}")
    return HERE[name]


def test_every_film_has_its_golden_values(shared_data):
    pytest.importorskip("data_store")
    assert HERE.keys() == KNOWN.keys()
    assert len(KNOWN) == 30


@each_film
def test_a_film_is_decoded_as_it_was(name):
    found, known = golden.facts(film_of(name)), dict(KNOWN[name])
    if name in UNREADABLE and "failure" not in found:
        pytest.skip("the GPL decoder is installed")
    for numbers in {"mean", "percentiles", "grid"} & known.keys():
        np.testing.assert_allclose(found.pop(numbers), known.pop(numbers), atol=2e-3)
    assert found == known


def test_golden_values_hold_no_picture_and_no_patient():
    names = {"rows", "columns", "transfer_syntax", "photometric", "notes", "refusal"}
    names |= {"mean", "percentiles", "grid", "failure"}
    for known in KNOWN.values():
        assert known.keys() <= names
        assert np.shape(known.get("grid", np.zeros((8, 8)))) == (8, 8)


@each_film
def test_stored_values_are_those_a_peer_finds(name, tmp_path):
    path = film_of(name)
    expected = peers.stored_values(peers.explicit(path, tmp_path))
    ds = pydicom.dcmread(path)
    if name in UNREADABLE:
        assert ds.file_meta.TransferSyntaxUID == JPEG_EXTENDED
        return
    stored = stored_values(ds, int(ds.BitsStored))
    lossy_jpeg = ds.file_meta.TransferSyntaxUID == JPEG_BASELINE
    off = np.abs(stored.astype(np.int64) - expected)
    assert off.max() <= int(lossy_jpeg)  # inverse cosine transforms may round differently


@each_film
def test_a_window_shows_what_dcm2pnm_shows(name, tmp_path):
    path = film_of(name)
    if name in NO_WINDOW | UNREADABLE:
        assert name in UNREADABLE or any("percentiles" in note for note in KNOWN[name]["notes"])
        return
    shown = peers.shown_by_dcmtk(peers.explicit(path, tmp_path), tmp_path)
    off = np.abs(decode(path.read_bytes()).pixels * 255 - shown)
    assert off.max() <= 1 + 1e-3  # dcm2pnm cuts off where we round
