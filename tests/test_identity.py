"""Who the patient is, is kept as the site says, and two patients are never taken for one."""

import hashlib
import hmac
import json
import threading

import numpy as np
import pytest

from worker.config import Dicom
from worker.errors import ConfigError
from worker.identity import Patients, key_state, shown
from worker.records import IDENTIFYING, Patient, PreparedFilm, Tags

KEY = "ab" * 32


@pytest.fixture
def key_file(tmp_path):
    """A site's key for patients."""
    file = tmp_path / "identity.key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    return file


def film(**who):
    """A prepared film of this patient."""
    levels = np.zeros((2, 2), np.float32)
    tags = Tags(modality="DX")
    return PreparedFilm("0" * 64, levels, b"", "DICOM", 2, 2, tags, (), None, Patient(**who))


def kept(key_file, identity, **who):
    """The tags that a site keeps of this patient's film."""
    known = Patients(Dicom(identity=identity, identity_key_file=key_file)).known(film(**who))
    assert known.patient == Patient()
    return known.tags


WHO = {
    "patient_id": "0815",
    "issuer_of_patient_id": "CLINIC",
    "patient_name": "Doe, Jane",
    "accession_number": "A77",
}


def test_off_keeps_nothing_and_makes_no_key(tmp_path):
    assert kept(tmp_path / "identity.key", "off", **WHO) == Tags(modality="DX")
    assert list(tmp_path.iterdir()) == []


def test_a_pseudonym_is_a_keyed_hash_of_issuer_and_id(key_file):
    message = json.dumps(["CLINIC", "0815"]).encode()
    expected = hmac.new(bytes.fromhex(KEY), message, hashlib.sha256).hexdigest()[:32]
    assert kept(key_file, "pseudonym", **WHO) == Tags(modality="DX", patient_key=expected)


def test_clear_keeps_name_id_and_accession_number_and_the_same_key(key_file):
    tags = kept(key_file, "clear", **WHO)
    assert (tags.patient_name, tags.patient_id, tags.accession_number) == (
        "Doe, Jane",
        "0815",
        "A77",
    )
    assert tags.patient_key == kept(key_file, "pseudonym", **WHO).patient_key


def test_other_ids_issuers_and_keys_are_other_patients(key_file):
    whos = [
        {"patient_id": "0815", "issuer_of_patient_id": "CLINIC"},
        {"patient_id": "0815", "issuer_of_patient_id": "PRAXIS"},
        {"patient_id": "0815"},
        {"patient_id": "815"},
        {"patient_id": "15", "issuer_of_patient_id": "CLINIC08"},
    ]
    keys = {kept(key_file, "pseudonym", **who).patient_key for who in whos}
    key_file.write_text("cd" * 32)
    keys.add(kept(key_file, "pseudonym", **whos[0]).patient_key)
    assert len(keys) == len(whos) + 1
    assert None not in keys


@pytest.mark.parametrize(
    "nobody",
    [None, "", "0", "000000", "-", "UNKNOWN", "unknown", "Anonymous", "ANONYMIZED", "N/A", "XXXX"],
)
def test_an_id_that_stands_for_nobody_gives_no_key(key_file, nobody):
    assert kept(key_file, "pseudonym", patient_id=nobody).patient_key is None


@pytest.mark.parametrize("somebody", ["1", "ANON-0007", "TEST12", "X1"])
def test_an_id_that_may_be_somebody_gives_one(key_file, somebody):
    assert kept(key_file, "pseudonym", patient_id=somebody).patient_key is not None


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    dicom = Dicom(identity="pseudonym", identity_key_file=tmp_path / "identity.key")
    assert "is made" in key_state(dicom.identity_key_file)
    films: list[Tags] = []
    threads = [
        threading.Thread(target=lambda: films.append(Patients(dicom).known(film(**WHO)).tags))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(films) == 8
    assert len({tags.patient_key for tags in films}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["identity.key"]
    assert dicom.identity_key_file.stat().st_mode & 0o777 == 0o600
    assert "is there" in key_state(dicom.identity_key_file)


def test_the_key_is_on_the_disk_before_it_is_used(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("worker.identity.sync_folder", synced.append)
    dicom = Dicom(identity="pseudonym", identity_key_file=tmp_path / "identity.key")
    for times in (1, 2):  # made, and found: whoever made it may have been cut off
        Patients(dicom)
        assert synced == [tmp_path] * times


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.chmod(0o640), "chmod 600"),
        (lambda file: file.write_text(KEY[:40]), "no key of 64"),
        (lambda file: file.write_bytes(b"\xff" * 64), "cannot read"),
    ],
)
def test_a_key_that_is_none_stops_the_site(key_file, spoil, said):
    spoil(key_file)
    with pytest.raises(ConfigError, match=said):
        Patients(Dicom(identity="clear", identity_key_file=key_file))


def test_a_key_that_cannot_be_made_stops_the_site(tmp_path):
    missing = tmp_path / "no" / "identity.key"
    with pytest.raises(ConfigError, match="cannot make"):
        Patients(Dicom(identity="pseudonym", identity_key_file=missing))


@pytest.mark.parametrize(
    ("identity", "stays"),
    [("off", ()), ("pseudonym", ("patient_key",)), ("clear", IDENTIFYING)],
)
def test_pages_show_of_what_was_stored_what_the_site_wants_now(identity, stays):
    tags = shown(Tags(modality="DX", **dict.fromkeys(IDENTIFYING, "Doe")), identity)
    assert tags == Tags(modality="DX", **dict.fromkeys(stays, "Doe"))
