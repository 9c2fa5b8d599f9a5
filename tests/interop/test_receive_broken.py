"""Peers that break off, stall, lie about lengths or do not wait leave nothing half."""

import select
import socket
import struct
from contextlib import suppress
from io import BytesIO

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

from tests.interop.peers import CR, Receive, dataset, free_port, wait_until


def associate(port):
    entity = AE("STORESCU")
    entity.add_requested_context(CR, ExplicitVRLittleEndian)
    peer = entity.associate("127.0.0.1", port, ae_title="SCREEN")
    assert peer.is_established
    return peer


def send_half(peer, size=128):
    """All of a C-STORE request but its end."""
    ds = dataset(size=size)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CR, ds.SOPInstanceUID
    request.DataSet = BytesIO(encode(ds, False, True))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pieces = list(message.encode_msg(peer.accepted_contexts[0].context_id, 16_384))
    for piece in pieces[:-1]:
        peer.dul.send_pdu(piece)


def raw(peer) -> socket.socket:
    return peer.dul.socket.socket


def reset(peer):
    """End the connection as a machine does that lost its power and came back."""
    connection = raw(peer)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def ended(connection) -> bool:
    """Whether the other side has closed, an A-ABORT before it or not."""
    connection.settimeout(10)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def ends_while(connection, piece, pause_s=0.0) -> bool:
    """Whether the other side ends the connection while it is sent this over and over."""
    with suppress(OSError, ValueError):  # of a connection that is closed here, too
        for _ in range(10_000):
            connection.sendall(piece)
            if select.select([connection], [], [], pause_s)[0]:
                return True
    return connection.fileno() == -1


ENDS = {
    "abort": lambda peer: peer.abort(),
    "close": lambda peer: raw(peer).shutdown(socket.SHUT_RDWR),
    "reset": reset,
    "nonsense": lambda peer: raw(peer).sendall(b"GET / HTTP/1.0\r\n\r\n"),
    "an early release": lambda peer: peer.acse.send_release(),
}


@pytest.mark.parametrize("how", ENDS)
def test_an_association_that_ends_in_the_middle_of_a_film_leaves_nothing(how, listening, inbox):
    receiver = listening()
    peer = associate(receiver.port)
    send_half(peer)
    wait_until(inbox)
    assert [path.name.startswith(".upload-") for path in inbox()] == [True]
    ENDS[how](peer)
    wait_until(lambda: not inbox())
    assert receiver.films == 0
    again = associate(receiver.port)
    assert again.send_c_store(dataset()).Status == 0
    again.release()


def test_an_association_that_falls_silent_is_ended(listening, inbox, monkeypatch):
    monkeypatch.setattr("worker.interop.receive.IDLE_S", 0.3)
    peer = associate(listening().port)
    send_half(peer)
    wait_until(inbox)
    wait_until(lambda: not inbox())
    wait_until(lambda: peer.is_aborted)


def test_a_pdu_that_does_not_come_to_its_end_is_ended(listening, monkeypatch):
    monkeypatch.setattr("worker.interop.upperlayer.IDLE_S", 0.3)
    with socket.create_connection(("127.0.0.1", listening().port)) as connection:
        connection.sendall(b"\x01\x00\x00\x00\x10\x00" + b"\x00\x01")
        assert ended(connection)


def test_a_pdu_that_trickles_in_is_ended(listening, monkeypatch):
    monkeypatch.setattr("worker.interop.upperlayer.IDLE_S", 0.5)
    with socket.create_connection(("127.0.0.1", listening().port)) as connection:
        connection.sendall(b"\x01\x00\x00\x00\x10\x00")
        assert ends_while(connection, b"\x00", pause_s=0.05)


def test_a_pdu_that_claims_gigabytes_is_not_waited_for(listening):
    with socket.create_connection(("127.0.0.1", listening().port)) as connection:
        connection.sendall(b"\x01\x00\xff\xff\xff\xff")
        assert ended(connection)


def test_a_command_set_without_end_is_ended(listening, inbox):
    peer = associate(listening().port)
    piece = bytes([peer.accepted_contexts[0].context_id, 0x01]) + bytes(16_000)
    fragment = struct.pack(">I", len(piece)) + piece
    pdu = b"\x04\x00" + struct.pack(">I", len(fragment)) + fragment
    assert ends_while(raw(peer), pdu)
    assert inbox() == []


def test_a_data_set_without_command_is_no_film(listening, inbox):
    peer = associate(listening().port)
    piece = bytes([peer.accepted_contexts[0].context_id, 0x02]) + bytes(100)
    fragment = struct.pack(">I", len(piece)) + piece
    raw(peer).sendall(b"\x04\x00" + struct.pack(">I", len(fragment)) + fragment)
    wait_until(lambda: not peer.is_established)
    assert inbox() == []


def test_what_a_killed_receiver_left_is_swept_by_the_next(configured, inbox, started):
    config, port = configured(), free_port()
    program = started(Receive, config.root, port)
    peer = associate(port)
    send_half(peer)
    wait_until(inbox)
    program.kill()
    assert len(inbox()) == 1
    peer.abort()
    started(Receive, config.root, port)
    assert inbox() == []
    assert associate(port).send_c_store(dataset()).Status == 0
