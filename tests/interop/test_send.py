"""Answers go out once, under their own UID, and wait for as long as the node takes none."""

import errno
import io
import logging
import os
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from pydicom import dcmread
from pynetdicom import AE, dimse_messages, evt
from sqlalchemy import select

from tests.interop.peers import SR, dataset, free_port, wait_until
from worker.errors import ConfigError
from worker.interop.contexts import ANSWERS
from worker.interop.nodes import Node, node
from worker.interop.send import send_due, start_sender
from worker.store.answers import due
from worker.store.tables import Answer
from worker.store.unsent import unsent

LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Pacs:
    """A node in this process that notes what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.status = 0x0000
        self.port = free_port()
        self.syntaxes = ["1.2.840.10008.1.2.1"]
        self.called = "PACS"

    def start(self) -> None:
        entity = AE(self.called)
        entity.require_called_aet = True
        for uid in ANSWERS:
            entity.add_supported_context(uid, self.syntaxes)
        self.server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )

    def stop(self) -> None:
        self.server.shutdown()

    def _store(self, event) -> int:
        self.got.append(str(event.request.AffectedSOPInstanceUID))
        return self.status(event) if callable(self.status) else self.status


@pytest.fixture
def pacs():
    made = Pacs()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def config(configured, pacs):
    return configured(f'send_to = "PACS@127.0.0.1:{pacs.port}"\n')


def state_of(engine):
    return [(a.state, a.attempts, a.message) for a in answers_in(engine)]


def answers_in(engine):
    with engine.connect() as connection:
        return list(connection.execute(select(Answer.__table__).order_by(Answer.id)))


def test_what_was_made_is_sent_and_marked(config, outbox, pacs):
    engine, uids = outbox(config, 3)
    done = send_due(config, engine)
    assert (done.sent, done.failed) == (3, 0)
    assert pacs.got == uids
    assert state_of(engine) == [("sent", 0, None)] * 3
    assert all(row.sent_at is not None for row in answers_in(engine))
    assert unsent(engine) == []


def test_nothing_is_sent_twice(config, outbox, pacs):
    engine, uids = outbox(config, 2)
    for _ in range(2):
        send_due(config, engine, until=LATER)
    assert pacs.got == uids


def test_more_than_an_association_carries(config, outbox, pacs, monkeypatch):
    monkeypatch.setattr("worker.interop.send._BATCH", 2)
    engine, uids = outbox(config, 5)
    assert send_due(config, engine).sent == 5
    assert pacs.got == uids


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_a_warning_means_that_it_is_stored(status, config, outbox, pacs):
    pacs.status = status
    engine, _ = outbox(config, 1)
    send_due(config, engine)
    (state,) = state_of(engine)
    assert state[:2] == ("sent", 0)
    assert f"0x{status:04X}, warning" in state[2]


@pytest.mark.parametrize(
    ("status", "words"), [(0xA700, "Out of Resources"), (0x0124, "Not Authorised")]
)
def test_a_failure_waits_with_its_status_in_words(status, words, config, outbox, pacs):
    pacs.status = status
    engine, uids = outbox(config, 1)
    assert send_due(config, engine).failed == 1
    (state,) = state_of(engine)
    assert state[:2] == ("made", 1)
    assert words in state[2]
    pacs.status = 0
    assert send_due(config, engine).sent == 0  # not yet due
    assert send_due(config, engine, until=LATER).sent == 1
    assert pacs.got == uids * 2


def test_one_that_fails_does_not_hold_up_the_others(config, outbox, pacs):
    engine, uids = outbox(config, 3)
    pacs.status = lambda event: (
        0xC000 if event.request.AffectedSOPInstanceUID == uids[0] else 0x0000
    )
    send_due(config, engine)
    assert [state for state, *_ in state_of(engine)] == ["made", "sent", "sent"]


def test_waits_double_up_to_an_hour(config, outbox, pacs):
    pacs.status = 0xA700
    engine, _ = outbox(config, 1)
    moment, waits = datetime(2026, 5, 3, tzinfo=UTC), []
    for _ in range(10):
        send_due(config, engine, until=LATER, clock=lambda: moment)
        waits.append((answers_in(engine)[0].due_at - moment) / timedelta(seconds=1))
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


@pytest.mark.parametrize("how", ["down", "title"])
def test_a_node_that_is_not_there_postpones_all(how, config, outbox, pacs):
    pacs.stop()
    engine, uids = outbox(config, 3)
    if how == "title":
        pacs.called = "OTHER"
        pacs.start()
    assert send_due(config, engine).failed == 3
    expected = {"down": "cannot be reached", "title": "Called AE title not recognised"}[how]
    assert all(state == "made" and expected in why for state, _, why in state_of(engine))
    if how == "down":
        pacs.start()
        assert send_due(config, engine, until=LATER).sent == 3
        assert pacs.got == uids
    else:
        assert pacs.got == []


def test_a_class_that_the_node_does_not_take_is_said(configured, outbox):
    pacs = Pacs()
    pacs.syntaxes = ["1.2.840.10008.1.2"]
    pacs.start()
    config = configured(f'send_to = "PACS@127.0.0.1:{pacs.port}"\n')
    engine, _ = outbox(config, 1)
    send_due(config, engine)
    pacs.stop()
    assert "accepted none of the objects" in state_of(engine)[0][2]


def test_an_association_that_ends_before_the_answer_leaves_it_waiting(config, outbox, pacs):
    engine, uids = outbox(config, 2)
    pacs.status = lambda event: event.assoc.abort() if len(pacs.got) == 1 else 0x0000
    done = send_due(config, engine)
    assert (done.sent, done.failed) == (1, 1)
    assert [state for state, *_ in state_of(engine)] == ["made", "sent"]
    assert "ended before" in state_of(engine)[0][2]
    send_due(config, engine, until=LATER)
    assert pacs.got == [*uids, uids[0]]


@pytest.mark.parametrize("damage", ["gone", "other", "text"])
def test_a_file_that_is_not_what_the_outbox_says_is_never_sent(damage, config, outbox, pacs):
    engine, uids = outbox(config, 2)
    file = config.dicom.answers / answers_in(engine)[0].file
    if damage == "gone":
        file.unlink()
    elif damage == "text":
        file.write_text("no DICOM")
    else:
        dataset(sop_class=SR).save_as(file, enforce_file_format=True)
    done = send_due(config, engine)
    assert (done.sent, done.failed) == (1, 1)
    assert pacs.got == uids[1:]
    expected = {
        "gone": ("due", 0, None),
        "text": ("made", 1, "its file cannot be read"),
        "other": ("made", 1, "its file holds another SOP instance"),
    }
    assert state_of(engine)[0] == expected[damage]


def folder_instead(file):
    file.unlink()
    file.mkdir()


def without_uid(file):
    ds = dcmread(file)
    del ds.file_meta.MediaStorageSOPInstanceUID
    ds.save_as(file)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda file: file.unlink(), "FileNotFoundError"),
        (folder_instead, "IsADirectoryError"),
        (lambda file: file.write_text("no DICOM"), "InvalidDicomError"),
        (without_uid, "AttributeError"),
    ],
)
def test_a_file_that_goes_bad_on_its_way_does_not_hold_up_the_others(
    damage, why, config, outbox, pacs
):
    engine, uids = outbox(config, 3)
    file = config.dicom.answers / answers_in(engine)[1].file

    def while_the_first_is_sent(_event):
        if len(pacs.got) == 1:
            damage(file)
        return 0x0000

    pacs.status = while_the_first_is_sent
    done = send_due(config, engine)
    assert (done.sent, done.failed) == (2, 1)
    assert pacs.got == [uids[0], uids[2]]
    state = ("made", 1, f"its file cannot be read or sent ({why})")
    assert state_of(engine) == [("sent", 0, None), state, ("sent", 0, None)]
    assert send_due(config, engine).failed == 0  # it is not due: it waits


def test_a_disk_that_fails_in_the_middle_of_a_file_does_not_hold_up_the_others(
    config, outbox, pacs, monkeypatch
):
    engine, uids = outbox(config, 3)
    damaged = config.dicom.answers / answers_in(engine)[1].file

    class Bad(io.BytesIO):
        def read(self, *_):
            raise OSError(errno.EIO, "bad sector")

    def opened(path, mode):
        return Bad(damaged.read_bytes()) if path == damaged else path.open(mode)

    monkeypatch.setattr(dimse_messages, "open", opened, raising=False)
    done = send_due(config, engine)
    assert (done.sent, done.failed) == (2, 1)
    assert pacs.got == [uids[0], uids[2]]
    assert state_of(engine)[1] == ("made", 1, "its file cannot be read or sent (OSError)")


def test_a_node_that_is_not_there_is_called_once_in_a_round(config, outbox, pacs, monkeypatch):
    monkeypatch.setattr("worker.interop.send._BATCH", 1)
    pacs.stop()
    engine, _ = outbox(config, 3)
    assert send_due(config, engine).failed == 1
    pacs.start()
    assert send_due(config, engine).sent == 2


def test_the_outbox_is_for_the_site_alone_whatever_the_umask_is(configured, outbox, pacs):
    send_to = f'send_to = "PACS@127.0.0.1:{pacs.port}"\n'
    config = configured(f'{send_to}answers = "out/answers"\n')
    engine, _ = outbox(config, 0)
    before = os.umask(0o022)
    try:
        send_due(config, engine)
    finally:
        os.umask(before)
    answers = config.dicom.answers
    modes = [path.stat().st_mode & 0o7777 for path in (answers.parent, answers)]
    assert modes == [int(config.site.dir_mode, 8)] * 2
    assert (answers / ".sending").stat().st_mode & 0o777 == 0o600


def test_a_death_before_the_mark_sends_the_same_instance_again(config, outbox, pacs, monkeypatch):
    engine, uids = outbox(config, 1)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("worker.interop.send.settle", die)
        with pytest.raises(KeyboardInterrupt):
            send_due(config, engine)
    assert send_due(config, engine).sent == 1
    assert pacs.got == uids * 2


def test_the_sender_sends_what_comes_while_it_runs_and_ends(config, outbox, pacs, monkeypatch):
    monkeypatch.setattr("worker.interop.send._LOOK_S", 0.02)
    engine, uids = outbox(config, 1)
    stop = start_sender(config, engine)
    wait_until(lambda: pacs.got == uids)
    engine, more = outbox(config, 1)
    wait_until(lambda: pacs.got == uids + more)
    stop()
    wait_until(lambda: unsent(engine) == [])


def test_a_round_that_fails_does_not_end_the_sender(config, outbox, pacs, monkeypatch, caplog):
    monkeypatch.setattr("worker.interop.send._LOOK_S", 0.02)
    engine, uids = outbox(config, 1)
    failures = [ValueError("unforeseen"), OSError(5, "disk")]

    def fail_first(*arguments, **options):
        if failures:
            raise failures.pop()
        return send_due(*arguments, **options)

    monkeypatch.setattr("worker.interop.send.send_due", fail_first)
    stop = start_sender(config, engine)
    wait_until(lambda: pacs.got == uids)
    stop()
    assert "sending failed" in caplog.text


def test_without_a_node_no_sender_starts(configured, outbox):
    config = configured("")
    engine, _ = outbox(config, 1)
    start_sender(config, engine)()
    assert len(due(engine, "made", LATER, 9)) == 1


def test_a_node_is_read_whole():
    assert node("MY PACS@pacs.example:104") == Node("MY PACS", "pacs.example", 104)
    assert node("PACS@[::1]:104").host == "::1"
    for wrong in ("PACS@host", "PACS:104", "@host:1", "PACS@host:0", "PACS@host:99999"):
        with pytest.raises(ConfigError, match=r"dicom\.send_to"):
            node(wrong)


def test_tls_wants_the_node_s_name_in_its_certificate(openssl, configured, outbox):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(openssl["peer.pem"], openssl["peer.key"])
    context.load_verify_locations(openssl["ca.pem"])
    context.verify_mode = ssl.CERT_REQUIRED
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.load_cert_chain(openssl["stranger.pem"], openssl["stranger.key"])
    results = []
    for used in (stranger, context):
        pacs = Pacs()
        entity = AE("PACS")
        for uid in ANSWERS:
            entity.add_supported_context(uid)
        server = entity.start_server(
            ("127.0.0.1", pacs.port),
            block=False,
            ssl_context=used,
            evt_handlers=[(evt.EVT_C_STORE, pacs._store)],
        )
        lines = f'send_to = "PACS@127.0.0.1:{pacs.port}"\n' + "".join(
            f'tls_{key} = "{openssl[name]}"\n'
            for key, name in (("certificate", "us.pem"), ("key", "us.key"), ("ca", "ca.pem"))
        )
        config = configured(lines)
        engine, _ = outbox(config, 1)
        results.append((send_due(config, engine, until=LATER).sent, pacs.got))
        server.shutdown()
    assert results[0] == (0, [])
    assert results[1][0] == 2


def test_screen_send_says_what_was_sent_and_what_waits(config, outbox, pacs, screen, caplog):
    pacs.status = 0xA700
    outbox(config, 2)
    first = screen("send", cwd=config.root)
    assert first.returncode == 1
    assert first.stdout.splitlines() == [
        "sent 0",
        "waiting 2: status 0xA700, failure: Refused: Out of Resources",
    ]
    pacs.status = 0
    assert screen("send", cwd=config.root).stdout.startswith("sent 0")
    last = screen("send", "--all", cwd=config.root)
    assert (last.returncode, last.stdout) == (0, "sent 2\n")


def test_screen_send_without_a_node_is_a_usage_error(configured, screen):
    answer = screen("send", cwd=configured("").root)
    assert answer.returncode == 2
    assert "send_to is empty" in answer.stderr


def test_nothing_of_patients_is_logged(config, outbox, pacs, caplog):
    engine, _ = outbox(config, 1)
    with caplog.at_level(logging.DEBUG):
        send_due(config, engine)
    worker = " ".join(r.getMessage() for r in caplog.records if r.name.startswith("worker"))
    assert worker == "answers sent"
