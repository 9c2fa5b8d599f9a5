"""Recognise films by their content, never by their name, and tell whether they are whole."""

import os
from enum import StrEnum
from io import BytesIO
from os import PathLike
from typing import BinaryIO

from worker.imaging import dicomwalk, rasterwalk
from worker.imaging.source import Source

HEAD_BYTES = 132  # what `sniff` wants to see: the DICOM prefix ends there (PS3.10 7.1)
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe never blocks
_TIFF = (b"II*\0", b"MM\0*")
_INFLATE_CAP = 64 << 20  # intake judges larger deflated films complete: decoding tells


class Kind(StrEnum):
    """What the content of a file is, by its first bytes."""

    JPEG = "JPEG"
    PNG = "PNG"
    DICOM = "DICOM"
    OTHER = "other"


def sniff(head: bytes) -> Kind:
    """Kind of a file by its first `HEAD_BYTES` bytes.

    The DICOM prefix counts first, whatever the preamble before it holds. Without it, a file that
    begins with a plausible element of group 0002 or 0008 is DICOM too.
    """
    if head[128:132] == b"DICM":
        return Kind.DICOM
    if head.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    if head.startswith(rasterwalk.PNG_SIGNATURE):
        return Kind.PNG
    if dicomwalk.starts_like_dicom(head):
        return Kind.DICOM
    return Kind.OTHER


def is_complete(film: str | PathLike[str] | BinaryIO) -> bool:
    """Whether a film has been copied to its end, for intake; a cheap walk that decodes nothing.

    JPEG: its end marker. PNG: its IEND chunk. DICOM: its whole pixel data; an image header
    without pixel data counts as cut short. What is no film counts as complete: it fails later,
    as not-a-film. A file that is empty, or so short that it may become a film, is not complete:
    so begins every copy.
    Raises OSError when the file cannot be read, and nothing else.
    """
    if isinstance(film, (str, PathLike)):
        with os.fdopen(os.open(film, _OPEN_FLAGS), "rb") as file:
            return _is_complete(Source(file))
    return _is_complete(Source(film))


def is_whole(data: bytes) -> bool:
    """`is_complete` for bytes in memory."""
    return _is_complete(Source(BytesIO(data)))


def _is_complete(source: Source) -> bool:
    head = source.read_at(0, HEAD_BYTES)
    if source.size < HEAD_BYTES and _may_become_film(head):
        return False
    match sniff(head):
        case Kind.JPEG:
            return rasterwalk.jpeg_outline(source).is_complete
        case Kind.PNG:
            return rasterwalk.png_is_complete(source)
        case Kind.DICOM:
            return dicomwalk.ending(source, _INFLATE_CAP).is_whole
    return True


def _may_become_film(head: bytes) -> bool:
    """Whether a short file is how films begin; a preamble is empty or a TIFF's (PS3.10 7.1)."""
    starts = (b"\xff\xd8\xff", rasterwalk.PNG_SIGNATURE, b"\0" * 128 + b"DICM", *_TIFF)
    return head.startswith(_TIFF) or any(start.startswith(head) for start in starts)
