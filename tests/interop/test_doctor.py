"""`screen doctor` says what of [dicom] cannot be used, and that a key of patients is lost."""

import logging
import sqlite3
from contextlib import closing

import pytest

from worker import doctor
from worker.cli.running import screener_of
from worker.store.database import open_database


@pytest.fixture
def found(monkeypatch):
    """Findings by what was looked at, without those that load a model."""
    for name in ("_isolation", "_model", "_threshold"):
        monkeypatch.setattr(doctor, name, lambda _config: None)
    return lambda config: {each.what: each for each in doctor.examine(config)}


def test_nothing_is_wrong_with_a_site_that_talks_to_nobody(configured, found):
    findings = found(configured(""))
    dicom = {what: each.found for what, each in findings.items() if what.startswith("DICOM")}
    assert dicom == {
        "DICOM peers": "nobody may send",
        "DICOM answers": "are not sent",
        "DICOM TLS": "none",
    }
    assert "key of patients" not in findings


def test_nodes_and_tls_files_that_fit_are_said(configured, found, openssl):
    files = {"certificate": "us.pem", "key": "us.key", "ca": "ca.pem"}
    tls = "".join(f'tls_{key} = "{openssl[name]}"\n' for key, name in files.items())
    nodes = 'peers = ["CR1@127.0.0.1"]\nsend_to = "PACS@127.0.0.1:104"\n'
    findings = found(configured(nodes + tls))
    dicom = [each for what, each in findings.items() if what.startswith("DICOM")]
    assert [each.found for each in dicom] == [
        "1 may send films",
        "go to PACS",
        "certificate, key and CA fit",
    ]
    wrong = found(configured(nodes + tls.replace("us.key", "peer.key")))["DICOM TLS"]
    assert not wrong.ok
    assert "cannot be used together" in wrong.mend


@pytest.mark.parametrize(
    ("line", "what"),
    [("peers = ['CR1']", "DICOM peers"), ("send_to = 'PACS'", "DICOM answers")],
)
def test_nodes_that_cannot_be_read_are_said(line, what, configured, found):
    finding = found(configured(f"{line}\n"))[what]
    assert not finding.ok
    assert "must be as" in finding.mend


def _graver(caplog):
    return [each.levelno for each in caplog.records if each.levelno > logging.INFO]


def test_a_key_that_is_lost_is_said_by_doctor_and_log(configured, found, monkeypatch, caplog):
    config = configured("identity = 'pseudonym'\n")
    engine = open_database(config.database)
    monkeypatch.setattr("worker.screening.Screener", lambda *_, **__: None)
    assert "key of patients" not in found(config)
    screener_of(config, engine)
    assert _graver(caplog) == []
    with closing(sqlite3.connect(config.database.file)) as database, database:
        database.execute(
            "INSERT INTO films (sha256, format, rows, columns, notes, first_seen_at, patient_key) "
            "VALUES ('00', 'DICOM', 1, 1, '[]', '2026-05-03 12:00:00', 'key')"
        )
    finding = found(config)["key of patients"]
    assert not finding.ok
    assert "from its backup" in finding.mend
    screener_of(config, engine)
    assert _graver(caplog) == [logging.ERROR]
    engine.dispose()
    config.dicom.identity_key_file.write_text("ab" * 32)
    config.dicom.identity_key_file.chmod(0o600)
    assert "key of patients" not in found(config)
