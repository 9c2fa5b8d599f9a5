"""A decoder child tells what a film says as checked text, and its parent believes nothing else."""

import hashlib
import json

import pytest

from tests.interop import workshop
from worker.errors import NotAFilm
from worker.imaging import wire
from worker.imaging.decode import decode
from worker.imaging.header import attributes_of
from worker.imaging.limits import DecodeLimits
from worker.imaging.sandbox import ANY_SETTINGS, DecoderPool

TOKEN = b"t" * 16


def heard(**changes):
    """What the parent makes of a child's answer."""
    says = {"token": TOKEN.hex(), "sha256": "ab" * 32, "values": {"PatientID": "P-1"}}
    line = json.dumps({**says, "unusable": [], **changes}).encode()
    return wire.parse_attributes(wire.parse_header(line, TOKEN, ANY_SETTINGS, attributes=True))


def test_an_answer_is_read_back():
    film = attributes_of(workshop.film(), DecodeLimits())
    line = wire.attributes_answer(TOKEN, film)
    header = wire.parse_header(line, TOKEN, ANY_SETTINGS, attributes=True)
    assert header.blob_bytes == 0
    assert wire.parse_attributes(header) == film
    assert film.values["PatientName"] == "Weiß^Jürgen=白^勇"


@pytest.mark.parametrize(
    "changes",
    [
        {"values": {"PatientID": 7}},
        {"values": {"PatientID": "P" * 325}},
        {"values": {"PatientID": "P\n1"}},
        {"values": {"PixelData": "x"}},
        {"values": []},
        {"unusable": ["Anything"]},
        {"unusable": None},
        {"sha256": "ab"},
    ],
)
def test_what_no_decoder_says_is_not_believed(changes):
    assert heard().values == {"PatientID": "P-1"}
    with pytest.raises(wire.BadAnswer):
        heard(**changes)


def test_a_pool_tells_attributes_and_prepares_films(tmp_path):
    path, other = tmp_path / "film.dcm", tmp_path / "other.dcm"
    path.write_bytes(workshop.film())
    other.write_bytes(b"\xff\xd8\xff no film")
    with DecoderPool(ANY_SETTINGS, DecodeLimits(), 1) as pool:
        found = pool.attributes(path).result(60)
        with pytest.raises(NotAFilm):
            pool.attributes(other).result(60)
        assert pool.submit(path).result(60).sha256 == found.sha256
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.values["StudyInstanceUID"] == workshop.STUDY


def in_characters(term, code, surname="Петров"):
    """A film whose name, ID and issuer are written in this code page, and which says this term."""
    data = workshop.film(PatientName="NNNNNN^A", PatientID="IIIIII", IssuerOfPatientID="CLINIC")
    named = data.replace(b"NNNNNN", surname.encode(code)).replace(b"IIIIII", surname.encode(code))
    return named.replace(b"ISO_IR 192", term.encode().ljust(10))


@pytest.mark.parametrize("code", ["cp1251", "cp866"])
@pytest.mark.parametrize("term", ["", "ISO_IR 6", "CYRILLIC"])
def test_characters_that_nobody_named_are_not_guessed(term, code):
    data = in_characters(term, code, "ПЕТРОВ")
    found = attributes_of(data, DecodeLimits())
    assert {"PatientName", "PatientID"} <= found.unusable
    assert not {"PatientName", "PatientID"} & set(found.values)
    patient = decode(data, identity="clear").patient
    assert (patient.patient_id, patient.patient_name) == (None, None)
    assert patient.issuer_of_patient_id == "CLINIC"


def test_characters_that_are_named_are_read():
    data = in_characters("ISO_IR 144", "iso8859-5")
    assert attributes_of(data, DecodeLimits()).values["PatientID"] == "Петров"
    assert decode(data, identity="clear").patient.patient_name == "Петров, A"


def test_an_issuer_in_unknown_characters_leaves_no_id():
    data = workshop.film(PatientID="P-1", IssuerOfPatientID="IIIIII")
    data = data.replace(b"IIIIII", "ПЕТРОВ".encode("cp866")).replace(b"ISO_IR 192", b"ISO_IR 6  ")
    assert decode(data, identity="pseudonym").patient.patient_id is None
