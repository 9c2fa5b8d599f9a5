"""Hand an open film to a decoder child: a descriptor over a Unix socket, and no name."""

import array
import secrets
import socket
import struct
from dataclasses import dataclass

_TOKEN_BYTES = 16
_REQUEST = struct.Struct(f"={_TOKEN_BYTES}sQ?")  # token, bytes of the film, only attributes?


@dataclass(frozen=True)
class Request:
    """One film as the child gets it: an open descriptor, which the child closes, and its size.

    The answer repeats the token, which nobody can know before. `attributes` asks for what a DICOM
    film says instead of its picture (`imaging.attributes`).
    """

    token: bytes
    film: int
    size: int
    attributes: bool = False


def new_token() -> bytes:
    """A name for one request that no child can foresee."""
    return secrets.token_bytes(_TOKEN_BYTES)


def send_request(channel: socket.socket, request: Request) -> None:
    """Hand over one open film (unix(7), SCM_RIGHTS); never blocks. Raises OSError."""
    rights = array.array("i", [request.film])
    channel.sendmsg(
        [_REQUEST.pack(request.token, request.size, request.attributes)],
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
        socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
    )


def receive_request(channel: socket.socket) -> Request | None:
    """The child's end of `send_request`; `None` when the parent has closed."""
    data, descriptors, _, _ = socket.recv_fds(channel, _REQUEST.size, 1)
    if not data:
        return None
    token, size, attributes = _REQUEST.unpack(data)
    return Request(token, descriptors[0], size, attributes)
