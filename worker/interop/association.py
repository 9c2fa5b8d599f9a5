"""pynetdicom's server, with what a network of strangers asks for.

Addresses that are on no list are cut off before a byte is read, a TLS handshake holds nobody else
up, a PDU has a greatest length and a time in which it must be there, titles count together with
addresses, and nothing that a stranger sent comes into the log.
"""

import logging
import socket
import ssl
import threading
from socketserver import BaseServer
from typing import Any, cast

from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from worker.interop.contexts import ASSOCIATIONS, NEGOTIATE_S
from worker.interop.incoming import Messages, Place
from worker.interop.nodes import Peers
from worker.interop.upperlayer import bound

log = logging.getLogger(__name__)

_THREADS = 4 * (ASSOCIATIONS + 2)  # each connection takes three
_CALLING_UNKNOWN = (0x01, 0x01, 0x03)  # result, source, diagnostic: PS3.8 9.3.4
_REJECTIONS = {
    _CALLING_UNKNOWN: "calling-ae-unknown",
    (0x01, 0x01, 0x07): "called-ae-unknown",
    (0x02, 0x03, 0x02): "too-many-associations",
}


class Server(ThreadedAssociationServer):
    """Takes connections of peers, each in threads of its own."""

    daemon_threads = True  # a peer that hangs does not keep the program from ending

    def __init__(
        self,
        entity: ApplicationEntity,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        place: Place,
        peers: Peers,
    ) -> None:
        self.place, self.peers = place, peers
        contexts = entity.supported_contexts
        super().__init__(entity, address, entity.ae_title, contexts, tls, request_handler=_Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection; TLS waits until it has a thread of its own."""
        connection, address = cast(socket.socket, self.socket).accept()
        connection.settimeout(NEGOTIATE_S)
        return connection, address

    def verify_request(self, _request: object, client_address: Any) -> bool:
        """Whether to talk to this address at all."""
        if not self.peers.may_connect(client_address[0]):
            log.warning("a connection was refused", extra={"slug": "unknown-address"})
            return False
        if threading.active_count() > _THREADS:
            log.warning("a connection was refused", extra={"slug": "too-many-connections"})
            return False
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, then serve the association to its end."""
        if self.ssl_context is not None:
            try:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            except OSError as error:
                slug = "tls-certificate" if _is_about_trust(error) else "tls"
                log.warning("a connection was refused", extra={"slug": slug})
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)

    def shutdown(self) -> None:
        """Take no more connections; those that are open go on."""
        BaseServer.shutdown(self)  # pynetdicom's wants a list of servers that it does not keep
        self.server_close()

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Log that a connection failed; socketserver would print all it knows."""
        log.exception("a connection failed")


def _is_about_trust(error: OSError) -> bool:
    return isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or "")


class _Handler(RequestHandler):
    """One connection: an association with our parts, and what it leaves swept up."""

    def handle(self) -> None:
        """Serve the association; nothing half is left of it."""
        association = self._create_association()
        server = cast(Server, self.server)
        messages = Messages(association, server.place)
        association.dimse = messages
        association.acse = _Gate(association, server.peers)
        bound(association)
        association.start()
        association.join()
        association.dul.join()
        messages.drop()


class _Gate(ACSE):
    """Negotiates with peers only: who calls must have the title and the address of one."""

    def __init__(self, assoc: Association, peers: Peers) -> None:
        super().__init__(assoc)
        self._peers = peers

    def _negotiate_as_acceptor(self) -> None:
        asked = cast(Any, self.requestor.primitive)
        address = cast(Any, self.requestor.address_info).address
        called = asked.called_ae_title == self.acceptor.ae_title
        if called and not self._peers.may_send(asked.calling_ae_title, address):
            self.send_reject(*_CALLING_UNKNOWN)
            self.assoc.kill()
            return
        super()._negotiate_as_acceptor()

    def send_reject(self, result: int, source: int, diagnostic: int) -> None:
        """Reject the association, and log why in our words."""
        slug = _REJECTIONS.get((result, source, diagnostic), "rejected")
        log.warning("an association was rejected", extra={"slug": slug})
        super().send_reject(result, source, diagnostic)
