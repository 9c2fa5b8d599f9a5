"""`screen receive`: a Storage SCP. A film is acknowledged once it lies in the inbox for good.

The worker takes it from there like any other film. What was cut off, by the peer, the network or
our own death, is not there, and the peer, which was told nothing, sends it again; a film whose
acknowledgement was lost lies there twice, and the worker records the second as a duplicate.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event

from worker.config import Config
from worker.intake.deliver import remove_abandoned
from worker.interop.association import Server
from worker.interop.contexts import (
    ASSOCIATIONS,
    FILMS,
    IDLE_S,
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    MAX_PDU,
    NEGOTIATE_S,
    VERIFICATION,
    film_syntaxes,
)
from worker.interop.incoming import OTHER_CLASS, SUCCESS, Incoming, Place
from worker.interop.nodes import Peers
from worker.interop.tls import server_tls
from worker.interop.upperlayer import quiet

log = logging.getLogger(__name__)

_LAST_FILMS_S = 10.0  # for associations that are under way when we are told to end
_POLL_S = 0.1


class Receiver:
    """A running Storage SCP; `port` is where it listens, `films` how many it has taken."""

    def __init__(self, server: Server, peers: Peers) -> None:
        self.port: int = server.server_address[1]
        self.peers = len(peers)
        self.films = 0
        self._server = server
        self._counting = threading.Lock()
        server.bind(evt.EVT_C_STORE, self._store)
        server.bind(evt.EVT_C_ECHO, lambda _event: SUCCESS)
        self._thread = threading.Thread(target=server.serve_forever, args=[_POLL_S], daemon=True)
        self._thread.start()
        log.info("listening for films", extra={"count": self.peers})

    def stop(self, last_films_s: float = _LAST_FILMS_S) -> None:
        """Take no more associations, let those under way end, abort what then still runs."""
        self._server.shutdown()
        end = time.monotonic() + last_films_s
        while self._server.active_associations and time.monotonic() < end:
            time.sleep(_POLL_S)
        for association in self._server.active_associations:
            with suppress(OSError):
                association.abort()
        self._thread.join()
        log.info("stopped listening", extra={"films": self.films})

    def _store(self, event: Event) -> int:
        """Answer a C-STORE request (PS3.4 B.2.3)."""
        request = event.request
        assert isinstance(request, C_STORE)
        film = request.DataSet
        assert isinstance(film, Incoming)
        if request.AffectedSOPClassUID != event.context.abstract_syntax:
            film.drop()
            return OTHER_CLASS
        status = film.deliver(str(request.AffectedSOPInstanceUID))
        if status == SUCCESS:
            with self._counting:
                self.films += 1
        return status


def start_receiver(
    config: Config, check: Callable[[], None], *, host: str | None = None, port: int | None = None
) -> Receiver:
    """Listen where `[dicom]` says, or at `host` and `port` (0: any that is free).

    `check` raises ShareGone when the folders are not the site's. Raises ConfigError for peers or
    TLS files that cannot be used, OSError when the address is taken.
    """
    quiet()
    settings = config.dicom
    peers, tls = Peers(settings.peers), server_tls(config)
    remove_abandoned(config.site.inbox)
    mode, most = int(config.site.file_mode, 8), config.decode.max_file_mb << 20
    address = (settings.host if host is None else host, settings.port if port is None else port)
    place = Place(config.site.inbox, mode, most, check)
    return Receiver(Server(_entity(settings.ae_title), address, tls, place, peers), peers)


def _entity(title: str) -> AE:
    """We as others see us."""
    entity = AE(title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION
    entity.require_called_aet = True
    entity.maximum_associations = ASSOCIATIONS
    entity.maximum_pdu_size = MAX_PDU
    entity.acse_timeout = NEGOTIATE_S
    entity.network_timeout = IDLE_S
    entity.add_supported_context(VERIFICATION)
    for film in FILMS:
        entity.add_supported_context(film, film_syntaxes())
    return entity
