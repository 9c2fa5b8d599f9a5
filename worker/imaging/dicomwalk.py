"""Walk the elements of a DICOM file without reading their values, to know where its picture ends.

Encoding: PS3.5 chapter 7; nested sequences: PS3.5 7.5; encapsulated pixel data: PS3.5 A.4;
file meta information: PS3.10 chapter 7. Nesting is counted, not recursed into.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from io import BytesIO
from typing import Literal

from worker.imaging.source import Source
from worker.imaging.syntaxes import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from worker.imaging.unfilled import pixels_break_off

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SOP_CLASS, _TRANSFER_SYNTAX, _ROWS = 0x00080016, 0x00020010, 0x00280010
_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}  # float, double float and integer pixel data
_SHORT_VRS = set(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = set(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# CR and secondary capture; DX and its kin share the prefix of CR (PS3.4 B.5)
_RADIOGRAPHS = {b"1.2.840.10008.5.1.4.1.1.1", b"1.2.840.10008.5.1.4.1.1.7"}
_MAX_STEPS = 1_000_000  # a bound on work: elements and fragments of one file
_MAX_DEPTH = 64


class Ending(Enum):
    """How a DICOM file ends."""

    COMPLETE = auto()  # its whole pixel data is there
    CUT = auto()  # it ends within an element
    UNFINISHED = auto()  # what its header announces has not come yet: it ends before, or is zeros
    NO_PICTURE = auto()  # it ends between two elements, and there was no pixel data

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing that the file says it has."""
        return self in (Ending.COMPLETE, Ending.NO_PICTURE)


@dataclass(frozen=True)
class Meta:
    """Where the data set begins and how it is encoded; `None` where the file does not say."""

    has_preamble: bool
    start: int
    transfer_syntax: str | None
    sop_class: str | None


@dataclass(frozen=True)
class _Element:
    tag: int
    vr: bytes
    value: int  # offset of its value
    length: int


def read_meta(source: Source) -> Meta:
    """Find the data set of a DICOM file that may lack its preamble, its meta group or both."""
    has_preamble = source.read_at(128, 4) == b"DICM"
    offset = 132 if has_preamble else 0
    syntax = sop_class = None
    for _ in range(100):
        if source.read_at(offset, 2) != b"\x02\x00":
            break
        element = _element(source, offset, EXPLICIT_LITTLE)
        if element is None:
            offset = source.size  # cut within the meta group
            break
        if element.length == _UNDEFINED:
            break
        text = source.read_at(element.value, min(element.length, 64)).decode("ascii", "replace")
        if element.tag == _TRANSFER_SYNTAX:
            syntax = text.strip("\0 ") or None
        if element.tag == 0x00020002:
            sop_class = text.strip("\0 ") or None
        offset = element.value + element.length
    return Meta(has_preamble, offset, syntax, sop_class)


def guess_syntax(source: Source, start: int) -> str:
    """How the data set at `start` is encoded, judged by its first element: never compressed."""
    head = source.read_at(start, 6)
    if head[:1] == b"\0" and head[1:2] != b"\0":
        return EXPLICIT_BIG
    return EXPLICIT_LITTLE if head[4:6] in _SHORT_VRS | _LONG_VRS else IMPLICIT_LITTLE


def starts_like_dicom(head: bytes) -> bool:
    """Whether a file without preamble begins with an element of group 0002 or 0008 (PS3.6)."""
    if len(head) < 8:
        return False
    order = ">" if head[:2] == b"\x00\x08" else "<"
    group, element = struct.unpack(order + "HH", head[:4])
    if group not in (0x0002, 0x0008) or element > 0x0070:
        return False
    if head[4:6] in _SHORT_VRS | _LONG_VRS:
        return True
    return bool(struct.unpack(order + "I", head[4:8])[0] <= 256)  # implicit VR: a short value


def ending(source: Source, inflate_cap: int) -> Ending:
    """How the file ends, at a cost of one step per element; never raises on hostile content.

    Deflated content is inflated up to `inflate_cap` bytes; beyond it, the decoder is to judge.
    """
    meta = read_meta(source)
    syntax = meta.transfer_syntax or guess_syntax(source, meta.start)
    if meta.start >= source.size:
        return Ending.CUT
    if syntax != DEFLATED:
        return _walk(source, meta.start, syntax, meta.sop_class)
    body, rest = inflate(source.read_at(meta.start, source.size), inflate_cap)
    if rest == "more":
        return Ending.COMPLETE
    if rest == "cut":
        return Ending.CUT
    return _walk(Source(BytesIO(body)), 0, EXPLICIT_LITTLE, meta.sop_class)


def inflate(body: bytes, cap: int) -> tuple[bytes, str]:
    """Inflate a deflated data set (PS3.5 A.5) up to `cap` bytes.

    The second value says what follows: `end` nothing, `cut` the stream is cut short, `more` it
    goes on beyond the cap, `bad` it is no deflate stream.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = stream.decompress(body, cap)
    except zlib.error:
        return b"", "bad"
    if stream.eof:
        return data, "end"
    return data, "more" if len(data) >= cap else "cut"


def _walk(source: Source, start: int, syntax: str, sop_class: str | None) -> Ending:
    announced = _is_radiograph((sop_class or "").encode())
    last = 0  # tag of the last element outside sequences: they come in ascending order
    levels: list[str] = []  # the encoding outside of each open sequence and item
    encoding = syntax if syntax in (IMPLICIT_LITTLE, EXPLICIT_BIG) else EXPLICIT_LITTLE
    offset, rows = start, 0
    for _ in range(_MAX_STEPS):
        if offset == source.size and not levels:
            silent = sop_class is None and last < _SOP_CLASS  # what it is would have come next
            return Ending.UNFINISHED if announced or silent else Ending.NO_PICTURE
        element = _element(source, offset, encoding)
        if element is None:
            return Ending.CUT
        offset = element.value
        if element.tag == 0:
            return Ending.UNFINISHED  # zeros: a copy that was given its whole size first
        if element.tag in _PIXELS and not levels:
            return _pixels_end(source, element, rows)
        if element.tag == _ROWS and not levels:
            rows = int.from_bytes(source.read_at(element.value, 2), _byte_order(encoding))
        if element.tag in (_ITEM_END, _SEQUENCE_END):
            encoding = levels.pop() if levels else encoding
        elif element.length == _UNDEFINED:
            levels.append(encoding)  # an unknown VR hides an implicit sequence (PS3.5 6.2.2)
            encoding = IMPLICIT_LITTLE if element.vr == b"UN" else encoding
        else:
            offset += element.length
        if not levels:
            announced |= _announces(source, element)
            last = element.tag
        if len(levels) > _MAX_DEPTH:
            break
    return Ending.COMPLETE  # hostile: the decoder, in its sandbox, is to judge


def _announces(source: Source, element: _Element) -> bool:
    """Whether an element promises a picture: rows, or the SOP class of a radiograph."""
    if element.tag == _ROWS:
        return True
    if element.tag != _SOP_CLASS:
        return False
    return _is_radiograph(source.read_at(element.value, min(element.length, 64)).strip(b"\0 "))


def _is_radiograph(uid: bytes) -> bool:
    return uid in _RADIOGRAPHS or uid.startswith(b"1.2.840.10008.5.1.4.1.1.1.")


def _byte_order(encoding: str) -> Literal["big", "little"]:
    return "big" if encoding == EXPLICIT_BIG else "little"


def _pixels_end(source: Source, element: _Element, rows: int) -> Ending:
    if element.length == _UNDEFINED:
        return _fragments_end(source, element.value)
    if element.value + element.length > source.size:
        return Ending.CUT
    unfilled = pixels_break_off(source, element.value, element.length, rows)
    return Ending.UNFINISHED if unfilled else Ending.COMPLETE


def _fragments_end(source: Source, offset: int) -> Ending:
    for tag, _, end in fragments(source, offset):
        if end > source.size:
            return Ending.CUT
        if tag == 0:
            return Ending.UNFINISHED
        if tag != _ITEM:
            return Ending.COMPLETE  # its delimiter, or not cut but broken: the decoder says so
    return Ending.CUT


def fragments(source: Source, offset: int) -> Iterator[tuple[int, int, int]]:
    """Items of encapsulated pixel data: tag, start and end of the value (PS3.5 A.4)."""
    for _ in range(_MAX_STEPS):
        head = source.read_at(offset, 8)
        if len(head) < 8:
            return
        group, number, length = struct.unpack("<HHI", head)
        yield group << 16 | number, offset + 8, offset + 8 + length
        offset += 8 + length


def _element(source: Source, offset: int, encoding: str) -> _Element | None:
    """The element header at `offset`; `None` when the file ends within it."""
    head = source.read_at(offset, 12)
    if len(head) < 8:
        return None
    order = ">" if encoding == EXPLICIT_BIG else "<"
    group, number = struct.unpack(order + "HH", head[:4])
    tag, vr = group << 16 | number, head[4:6]
    if group == 0xFFFE or encoding == IMPLICIT_LITTLE or vr not in _SHORT_VRS | _LONG_VRS:
        return _Element(tag, b"", offset + 8, struct.unpack(order + "I", head[4:8])[0])
    if vr in _SHORT_VRS:
        return _Element(tag, vr, offset + 8, struct.unpack(order + "H", head[6:8])[0])
    if len(head) < 12:
        return None
    return _Element(tag, vr, offset + 12, struct.unpack(order + "I", head[8:12])[0])
