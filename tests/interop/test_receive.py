"""`screen receive` takes films of listed peers, and says that it has one when it has it."""

import errno
import logging
import shutil
import socket

import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu_primitives import A_ASSOCIATE

from tests.interop.peers import (
    CR,
    CT,
    PATIENT,
    Receive,
    content_of,
    dataset,
    films,
    free_port,
    run,
    uid_of,
    wait_until,
)
from worker.errors import ConfigError, ShareGone, StoreError
from worker.intake.deliver import Parcel
from worker.interop import association as guarded
from worker.interop.contexts import MAX_PDU, MOST_PDU, film_syntaxes
from worker.interop.incoming import Incoming, Place

NOBODY = "peers = []\n"


@pytest.fixture
def caller():
    """Associate with a receiver as a listed peer; releases what is left open."""
    opened = []

    def call(receiver, *contexts, title="STORESCU", called="SCREEN", **options):
        entity = AE(title)
        for context in contexts or ((CR, ExplicitVRLittleEndian),):
            entity.add_requested_context(*context)
        made = entity.associate("127.0.0.1", receiver.port, ae_title=called, **options)
        opened.append(made)
        return made

    yield call
    for made in opened:
        if made.is_established:
            made.abort()


SYNTAXES = {
    "-xe": ("1.2.840.10008.1.2.1", None),
    "-xi": ("1.2.840.10008.1.2", None),
    "-xb": ("1.2.840.10008.1.2.2", ["dcmconv", "+tb"]),
    "-xd": ("1.2.840.10008.1.2.1.99", ["dcmconv", "+td"]),
    "-xs": ("1.2.840.10008.1.2.4.70", ["dcmcjpeg", "+e1"]),
    "-xt": ("1.2.840.10008.1.2.4.80", ["dcmcjpls", "+el"]),
    "-xr": ("1.2.840.10008.1.2.5", ["dcmcrle"]),
}


@pytest.mark.usefixtures("dcmtk")
@pytest.mark.parametrize("option", SYNTAXES)
def test_storescu_sends_in_each_syntax_and_the_same_picture_lies_in_the_inbox(
    option, listening, inbox, tmp_path
):
    receiver = listening()
    (film,) = films(tmp_path / "films", 1)
    expected = content_of(film)
    syntax, converter = SYNTAXES[option]
    if converter:
        converted = tmp_path / "converted.dcm"
        assert run(*converter, film, converted).returncode == 0
        film = converted
    sent = run("storescu", option, "-aec", "SCREEN", "127.0.0.1", receiver.port, film)
    assert sent.returncode == 0, sent.stderr
    (arrived,) = inbox()
    assert content_of(arrived) == expected
    assert arrived.name == f"{expected[0]}.dcm"
    assert pydicom.dcmread(arrived).file_meta.TransferSyntaxUID == syntax
    assert receiver.films == 1


def test_the_data_set_arrives_byte_by_byte_as_it_was_sent(listening, inbox, caller, tmp_path):
    peer = caller(listening())
    (film,) = films(tmp_path / "films", 1)
    assert peer.send_c_store(film).Status == 0
    (arrived,) = inbox()
    start = pydicom.dcmread(film).file_meta.FileMetaInformationGroupLength + 144
    ours = pydicom.dcmread(arrived).file_meta.FileMetaInformationGroupLength + 144
    assert arrived.read_bytes()[ours:] == film.read_bytes()[start:]


@pytest.mark.usefixtures("dcmtk")
def test_echoscu_is_answered(listening):
    echo = run("echoscu", "-aec", "SCREEN", "127.0.0.1", listening().port)
    assert echo.returncode == 0, echo.stderr


@pytest.mark.usefixtures("dcmtk")
def test_storescu_negotiates_all_lossless_syntaxes(listening, tmp_path):
    (film,) = films(tmp_path / "films", 1)
    port = listening().port
    said = run("storescu", "-v", "+v", "-xv", "-aec", "SCREEN", "127.0.0.1", port, film)
    assert said.returncode == 0, said.stderr


def test_the_same_instance_twice_lies_there_twice(listening, inbox, caller, tmp_path):
    peer = caller(listening())
    (film,) = films(tmp_path / "films", 1)
    uid = uid_of(film)
    assert [peer.send_c_store(film).Status for _ in range(2)] == [0, 0]
    assert [path.name for path in inbox()] == [f"{uid}-2.dcm", f"{uid}.dcm"]


def test_an_instance_uid_that_is_none_names_no_file(listening, inbox, caller):
    peer = caller(listening())
    ds = dataset()
    ds.SOPInstanceUID = "../../x"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    assert peer.send_c_store(ds).Status == 0
    assert [path.name for path in inbox()] == ["film.dcm"]


@pytest.mark.parametrize(
    ("title", "called", "lines", "diagnostic"),
    [
        ("STORESCU", "OTHER", None, 7),
        ("STRANGER", "SCREEN", None, 3),
        ("STORESCU", "SCREEN", 'peers = ["STORESCU@127.0.0.9", "X@127.0.0.1"]\n', 3),
    ],
)
def test_wrong_titles_are_rejected_with_the_standard_s_reason(
    title, called, lines, diagnostic, listening, caller, caplog
):
    receiver = listening(lines) if lines else listening()
    with caplog.at_level(logging.INFO, "worker"):
        peer = caller(receiver, title=title, called=called)
    assert peer.is_rejected
    answer = peer.acceptor.primitive
    assert isinstance(answer, A_ASSOCIATE)
    assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, diagnostic)
    assert title not in caplog.text


@pytest.mark.parametrize("lines", [NOBODY, 'peers = ["STORESCU@127.0.0.9"]\n'])
def test_an_address_on_no_list_is_cut_off(lines, listening, caller, caplog):
    receiver = listening(lines)
    with caplog.at_level(logging.INFO, "worker"):
        peer = caller(receiver)
    assert not peer.is_established
    assert not peer.is_rejected
    assert "unknown-address" in [getattr(r, "slug", None) for r in caplog.records]


def test_a_peer_from_anywhere(listening, caller):
    assert caller(listening('peers = ["STORESCU@*"]\n')).is_established


@pytest.mark.parametrize("text", ["PACS", "PACS@", "@host", "A@b@c", "SEVENTEEN_LETTERS@host"])
def test_a_peer_that_is_none_is_a_bad_configuration(text, listening):
    with pytest.raises(ConfigError, match=r"dicom\.peers"):
        listening(f'peers = ["{text}"]\n')


def test_other_objects_are_rejected_contexts(listening, caller):
    peer = caller(
        listening(),
        (CT, ExplicitVRLittleEndian),
        (CR, "1.2.840.10008.1.2.4.100"),
        (CR, film_syntaxes()),
    )
    rejected = [(cx.abstract_syntax, cx.result) for cx in peer.rejected_contexts]
    assert rejected == [(CT, 3), (CR, 4)]
    (accepted,) = peer.accepted_contexts
    assert accepted.transfer_syntax == [film_syntaxes()[0]]


def test_another_class_than_that_of_the_context_is_refused(listening, caller, inbox):
    peer = caller(listening())
    ds = dataset(sop_class=CT)
    peer._get_valid_context = lambda *_, **__: peer.accepted_contexts[0]
    assert peer.send_c_store(ds).Status == 0xA900
    assert inbox() == []


def test_a_request_without_a_data_set_cannot_be_understood(tmp_path):
    film = Incoming(Place(tmp_path, 0o640, 1000, lambda: None), lambda: b"head")
    assert film.deliver("1.2.3") == 0xC000
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_out_of_resources_and_leaves_nothing(listening, caller, inbox, monkeypatch):
    peer = caller(listening())
    written = Parcel.write
    room = [True]

    def write(parcel, piece):
        if not room[0]:
            raise OSError(errno.ENOSPC, "no space left on device")
        written(parcel, piece)

    monkeypatch.setattr(Parcel, "write", write)
    room[0] = False
    assert peer.send_c_store(dataset()).Status == 0xA700
    assert inbox() == []
    room[0] = True
    assert peer.send_c_store(dataset()).Status == 0
    assert len(inbox()) == 1


def test_a_share_that_is_gone_is_out_of_resources(listening, caller, inbox):
    gone = []

    def check():
        if gone:
            raise ShareGone("gone")

    peer = caller(listening(check=check))
    gone.append(True)
    assert peer.send_c_store(dataset()).Status == 0xA700
    assert inbox() == []


@pytest.mark.parametrize("trouble", [ShareGone, StoreError])
def test_what_keeps_a_film_out_is_logged_with_its_slug(trouble, listening, caller, inbox, caplog):
    gone = []

    def check():
        if gone:
            raise trouble("at /secret/place")

    receiver = listening(check=check)
    peer = caller(receiver)
    gone.append(True)
    assert peer.send_c_store(dataset()).Status == 0xA700
    assert inbox() == []
    (refused,) = [r for r in caplog.records if r.getMessage() == "a film was refused"]
    assert refused.slug == trouble.slug
    gone.clear()
    assert peer.send_c_store(dataset()).Status == 0
    assert receiver.films == 1


def test_an_inbox_that_is_no_more_is_out_of_resources(listening, caller, tmp_path):
    peer = caller(listening())
    shutil.rmtree(tmp_path / "site" / "inbox")
    assert peer.send_c_store(dataset()).Status == 0xA700


def test_an_object_that_is_too_large_is_refused_and_the_next_taken(listening, caller, inbox):
    peer = caller(listening('peers = ["STORESCU@127.0.0.1"]\n[decode]\nmax_file_mb = 1\n'))
    assert peer.send_c_store(dataset(size=1024)).Status == 0xA700
    assert inbox() == []
    assert peer.send_c_store(dataset()).Status == 0
    assert len(inbox()) == 1


def test_a_large_object_lies_in_no_memory(listening, caller, inbox):
    receiver = listening()
    peer = caller(receiver)
    taken = []
    original = guarded.Messages._film

    def watch(messages, message):
        film = original(messages, message)
        taken.append(film)
        return film

    guarded.Messages._film = watch
    try:
        assert peer.send_c_store(dataset(size=2000)).Status == 0
    finally:
        guarded.Messages._film = original
    assert [len(film.getvalue()) for film in taken] == [0]
    assert inbox()[0].stat().st_size > 8_000_000


def test_one_association_too_many_is_rejected_for_now(listening, caller, monkeypatch):
    monkeypatch.setattr("worker.interop.receive.ASSOCIATIONS", 2)
    receiver = listening()
    assert all(caller(receiver).is_established for _ in range(2))
    third = caller(receiver)
    assert third.is_rejected
    answer = third.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)


def test_the_end_waits_for_who_is_under_way_then_aborts(listening, caller):
    receiver = listening()
    peer = caller(receiver)
    receiver.stop(0.1)
    wait_until(lambda: not peer.is_established)
    assert peer.is_aborted
    assert not caller(receiver).is_established


def test_nothing_of_patients_or_strangers_is_logged(listening, caller, caplog, capfd):
    receiver = listening()
    with caplog.at_level(logging.DEBUG):
        assert caller(receiver).send_c_store(dataset()).Status == 0
        caller(receiver, title="STRANGER")
        receiver.stop(0)
    worker = [r for r in caplog.records if r.name.startswith("worker")]
    said = " ".join([r.getMessage() for r in worker]) + "".join(capfd.readouterr())
    assert worker
    for secret in (PATIENT, "4711", "STRANGER", "STORESCU"):
        assert secret not in said
    assert not logging.getLogger("pynetdicom").propagate


@pytest.mark.usefixtures("dcmtk")
def test_the_program_listens_says_so_and_ends_in_order(configured, screen, started):
    config = configured(NOBODY)
    port = free_port()
    program = started(Receive, config.root, port)
    run("echoscu", "-aet", "STRANGER", "127.0.0.1", port)
    assert program.kill(15) == 0
    said = program.log.read_text()
    assert f"SCREEN listens on 127.0.0.1:{port}, without TLS" in said
    assert "peers is empty: nobody may send" in said
    assert "slug=unknown-address" in said
    assert "stopped listening" in said
    assert "STRANGER" not in said
    assert "pynetdicom" not in said


def test_a_port_that_is_taken_is_one_line(configured, screen):
    config = configured()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        answer = screen("receive", "--port", other.getsockname()[1], cwd=config.root)
    assert answer.returncode == 1
    assert answer.stderr.startswith("screen: ")
    assert len(answer.stderr.splitlines()) == 1


def test_every_limit_is_one_that_a_pdu_of_ours_fits_in():
    assert MAX_PDU + 6 < MOST_PDU
    assert all(UID(uid).is_transfer_syntax for uid in film_syntaxes())
