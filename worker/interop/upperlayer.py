"""pynetdicom's upper layer (PS3.8) with bounds, and without its log, on either side of a call."""

import errno
import logging
import socket
import time
from typing import cast

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from worker.interop.contexts import IDLE_S, MOST_PDU


def quiet() -> None:
    """Have pynetdicom send files as they are, and keep what it says, titles and tags, to itself."""
    logging.getLogger("pynetdicom").propagate = False
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_SEND_CHUNKED_DATASET = True


def bound(association: Association) -> None:
    """Give PDUs of an association that is connected a greatest length, and a time to arrive in."""
    ours = cast(AssociationSocket, association.dul.socket)
    connection = cast(socket.socket, ours.socket)
    connection.settimeout(IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours.__class__ = _Socket


class _Socket(AssociationSocket):
    def recv(self, nr_bytes: int) -> bytearray:
        """So many bytes, fewer if the connection ended. Raises OSError: pynetdicom then ends it."""
        if nr_bytes > MOST_PDU:
            raise OSError(errno.EMSGSIZE, "a PDU longer than any that is allowed")
        connection, got = cast(socket.socket, self.socket), bytearray(nr_bytes)
        read, end = 0, time.monotonic() + IDLE_S
        with memoryview(got) as view:
            while read < nr_bytes:
                if time.monotonic() > end:
                    raise TimeoutError(errno.ETIMEDOUT, "a PDU that does not come to its end")
                more = connection.recv_into(view[read:])
                if not more:
                    break
                read += more
        # senders with Nagle's algorithm wait for it, 40 ms a film; Linux forgets it, so each time
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        del got[read:]
        return got
