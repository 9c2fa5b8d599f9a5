"""An association with a node that we call, for a few C-STORE requests."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from worker.interop.contexts import (
    ANSWER_S,
    CONNECT_S,
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    MAX_PDU,
    NEGOTIATE_S,
)
from worker.interop.nodes import Node
from worker.interop.upperlayer import bound, quiet

_ARRIVED = {0x0000, 0xB000, 0xB006, 0xB007}  # success, and warnings: it is stored (PS3.4 B.2.3)


class NotThere(Exception):
    """The node cannot be reached, or does not want to talk to us."""


class NoAnswer(Exception):
    """The association ended before the node said what became of an object."""


class Unsendable(Exception):
    """The file cannot be read to its end; the association was aborted."""


@dataclass(frozen=True)
class Status:
    """A node's answer to a C-STORE request; `words` are empty for plain success."""

    arrived: bool
    words: str


class Call:
    """A context: an association that proposes exactly these (SOP class, transfer syntax).

    Entering raises NotThere with the reason in words.
    """

    def __init__(
        self,
        target: Node,
        title: str,
        tls: ssl.SSLContext | None,
        contexts: Sequence[tuple[UID, UID]],
    ) -> None:
        quiet()
        self._target, self._tls = target, tls
        self._contexts = [build_context(*context) for context in sorted(set(contexts))]
        self._entity = AE(title)
        self._entity.implementation_class_uid = UID(IMPLEMENTATION_UID)
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION
        self._entity.connection_timeout = CONNECT_S
        self._entity.acse_timeout = NEGOTIATE_S
        self._entity.dimse_timeout = ANSWER_S
        self._entity.network_timeout = ANSWER_S
        self._association: Association | None = None

    def __enter__(self) -> Self:
        """Associate. Raises NotThere."""
        target = self._target
        try:
            association = self._entity.associate(
                target.host,
                target.port,
                self._contexts,
                ae_title=target.title,
                max_pdu=MAX_PDU,
                tls_args=(self._tls, target.host) if self._tls else None,
                evt_handlers=[(evt.EVT_CONN_OPEN, lambda event: bound(event.assoc))],
            )
        except OSError as error:  # the host has no address
            raise NotThere(f"{target.host} has no address") from error
        if not association.is_established:
            raise NotThere(_why(association))
        self._association = association
        return self

    @property
    def reached(self) -> bool:
        """Whether the node took the association."""
        return self._association is not None

    def __exit__(self, *_: object) -> None:
        """Release the association, if it is still there."""
        if self._association and self._association.is_established:
            self._association.release()

    def store(self, file: Path, sop_class: UID, syntax: UID) -> Status:
        """Send one file as it is. Raises NoAnswer, or Unsendable with the reason in words."""
        association = self._association
        assert association is not None
        accepted = {
            (c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts
        }
        if (sop_class, syntax) not in accepted:
            return Status(False, f"the node takes no {sop_class.name} in {syntax.name}")
        try:
            answer = association.send_c_store(file)
        except RuntimeError as error:
            raise NoAnswer("the association ended before it") from error
        except Exception as error:  # of the disk, or whatever pydicom meets in the file
            association.abort()  # half of the object may be out already
            raise Unsendable(f"its file cannot be read or sent ({type(error).__name__})") from error
        if "Status" not in answer:
            raise NoAnswer("the association ended before the node answered")
        return _status(int(answer.Status))


def _status(code: int) -> Status:
    """In the standard's words: the node's own comment may name a patient."""
    kind, meaning = STORAGE_SERVICE_CLASS_STATUS.get(code, ("Failure", "unknown"))
    words = f"status 0x{code:04X}, {kind.lower()}: {meaning}"
    return Status(code in _ARRIVED, words if code else "")


def _why(association: Association) -> str:
    """Why there is no association, in words (PS3.8 9.3.4)."""
    answer: Any = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        return f"the node rejected the association: {answer.reason_str}"
    if answer is not None:
        return "the node accepted none of the objects that we send"
    return "the node cannot be reached, or its TLS does not fit ours"
