"""Films on their way in: written to the inbox piece by piece as they come, never parsed.

pynetdicom collects the data set of a message in a `BytesIO`. Ours writes into a parcel of the
inbox, so a film of half a gigabyte takes no memory, and has no name before it is whole.
"""

import errno
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.pdu_primitives import P_DATA

from worker.errors import ShareGone, StoreError
from worker.intake.deliver import Parcel
from worker.interop.contexts import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION, MOST_COMMAND

log = logging.getLogger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
OTHER_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
STATUSES = {
    SUCCESS: "the film lies in the inbox, whole and synced",
    OUT_OF_RESOURCES: "nothing was kept: the disk is full, the share is gone or does not take "
    "it, the database cannot be read, or the object is larger than `[decode] max_file_mb`",
    OTHER_CLASS: "nothing was kept: the request names another SOP class than its context",
    CANNOT_UNDERSTAND: "nothing was kept: the request has no data set",
}
_UID = re.compile("[0-9.]{1,64}")
_END = "Evt19"  # an invalid PDU: pynetdicom aborts the association (PS3.8 9.2.3)


@dataclass(frozen=True)
class Place:
    """Where films go: the inbox, the mode of their files, the most bytes that one may have.

    `check` raises ShareGone when the inbox is not the one that was marked, StoreError when the
    database cannot say.
    """

    inbox: Path
    mode: int
    most_bytes: int
    check: Callable[[], None]


class Incoming(BytesIO):
    """The data set of one C-STORE request, on its way into a parcel."""

    def __init__(self, place: Place, head: Callable[[], bytes | None]) -> None:
        super().__init__()
        self._place, self._head = place, head
        self._parcel: Parcel | None = None
        self._trouble: int | None = None

    @property
    def under_way(self) -> bool:
        """Whether a parcel is open for it."""
        return self._parcel is not None

    def write(self, piece: Any) -> int:
        """Take a piece. What cannot be kept is read and dropped; `deliver` says so."""
        if self._trouble is None:
            with self._noting_trouble():
                self._keep(bytes(piece))
        return len(piece)

    def deliver(self, uid: str) -> int:
        """Give the film its name, of its SOP instance UID; gives the status of the response."""
        if self._trouble is None and self._parcel is None:
            return CANNOT_UNDERSTAND
        if self._parcel is not None:
            with self._noting_trouble(), self._parcel as parcel:
                self._place.check()
                parcel.deliver(f"{uid if _UID.fullmatch(uid) else 'film'}.dcm")
        self._parcel = None
        return SUCCESS if self._trouble is None else self._trouble

    def drop(self) -> None:
        """Keep nothing of a film that was not delivered."""
        if self._parcel is not None:
            self._parcel.__exit__()
            self._parcel = None

    def _keep(self, piece: bytes) -> None:
        if self._parcel is None:
            head = self._head()
            if head is None:
                self._trouble = CANNOT_UNDERSTAND
                return
            self._place.check()
            self._parcel = Parcel(self._place.inbox, self._place.mode)
            self._parcel.write(head)
        if self._parcel.size + len(piece) > self._place.most_bytes:
            raise OSError(errno.EFBIG, "larger than [decode] max_file_mb")
        self._parcel.write(piece)

    @contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        """What is refused becomes the status: nothing is kept, the rest is read on."""
        try:
            yield
        except (OSError, ShareGone, StoreError) as error:
            self.drop()
            self._trouble = OUT_OF_RESOURCES
            slug, number = getattr(error, "slug", None), getattr(error, "errno", None)
            log.error("a film was refused", extra={"slug": slug, "errno": number})


class Messages(DIMSEServiceProvider):
    """pynetdicom's collector of messages, with data sets that go to the inbox."""

    def __init__(self, assoc: Association, place: Place) -> None:
        super().__init__(assoc)
        self._place = place
        self._command = 0  # bytes of the command set that is coming in
        self._films: list[Incoming] = []

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a piece of a message; called by the thread that reads the connection."""
        if self.message is None:
            self.message, self._command = DIMSEMessage(), 0
            self.message.data_set = self._film(self.message)
        pieces = [data for _, data in primitive.presentation_data_value_list]
        self._command += sum(len(data) for data in pieces if data[0] & 1)  # PS3.8 E.2
        if self._command > MOST_COMMAND:
            self.dul.event_queue.put(_END)
            return
        super().receive_primitive(primitive)

    def drop(self) -> None:
        """Keep nothing of what was not delivered: the association has ended."""
        for film in self._films:
            film.drop()

    def _film(self, message: DIMSEMessage) -> Incoming:
        film = Incoming(self._place, lambda: self._head(message))
        self._films = [*(earlier for earlier in self._films if earlier.under_way), film]
        return film

    def _head(self, message: DIMSEMessage) -> bytes | None:
        """Preamble and file meta information (PS3.10 7.1); `None` for what is no film."""
        context = self.assoc._accepted_cx.get(message.context_id or 0)
        if not isinstance(message, C_STORE_RQ) or context is None:
            return None
        meta = create_file_meta(
            sop_class_uid=UID(message.command_set.AffectedSOPClassUID),
            sop_instance_uid=UID(message.command_set.AffectedSOPInstanceUID),
            transfer_syntax=context.transfer_syntax[0],
            implementation_uid=UID(IMPLEMENTATION_UID),
            implementation_version=IMPLEMENTATION_VERSION,
        )
        return b"\0" * 128 + b"DICM" + encode_file_meta(meta)
