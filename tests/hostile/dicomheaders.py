"""Edits of DICOM elements at the level of bytes: lengths, VRs, values, nesting, fragments.

Encoding: PS3.5 chapter 7; deflated data sets (PS3.5 A.5) are inflated, edited and deflated again.
"""

import functools
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataelem import RawDataElement
from pydicom.filereader import data_element_generator
from pydicom.tag import Tag

from tests.hostile.films import DEFLATED, SYNTAXES

_VRS = (
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN "
    b"UR US UT UV ZZ ??"
).split()
_LONG_VRS = set(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_COUNTS = {  # US attributes that decide how pixels are read, and IS of frames
    0x00280002: "SamplesPerPixel", 0x00280006: "PlanarConfiguration", 0x00280010: "Rows",
    0x00280011: "Columns", 0x00280100: "BitsAllocated", 0x00280101: "BitsStored",
    0x00280102: "HighBit", 0x00280103: "PixelRepresentation",
}  # fmt: skip
_COUNT_VALUES = (0, 1, 2, 3, 4, 7, 8, 12, 16, 17, 32, 64, 255, 4096, 32_768, 65_535)
_PHOTOMETRIC = (b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"PALETTE COLOR", b"YBR_FULL",
                b"YBR_FULL_422", b"YBR_ICT", b"XYZ", b"")  # fmt: skip
_OTHER_SYNTAXES = (*SYNTAXES.values(), "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57",
                   "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.201", "1.2.3", "")  # fmt: skip
_SQ_ITEM = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
    "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
)


@dataclass(frozen=True)
class Element:
    """Where an element's header and value begin, and how it is encoded."""

    tag: int
    header: int
    value: int
    length: int
    explicit: bool
    order: str  # of struct: < or >

    @property
    def length_field(self) -> tuple[int, str]:
        """Offset and struct format of its length."""
        if not self.explicit:
            return self.header + 4, self.order + "I"
        if self.value - self.header == 12:
            return self.header + 8, self.order + "I"
        return self.header + 6, self.order + "H"


@dataclass(frozen=True)
class Parsed:
    """A file with its elements; `deflated` when `data` was inflated from `start` on."""

    data: bytes
    start: int
    elements: tuple[Element, ...]
    deflated: bool

    def close(self, data: bytes) -> bytes:
        """The edited file, deflated again where it was."""
        if not self.deflated:
            return data
        stream = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        return data[: self.start] + stream.compress(data[self.start :]) + stream.flush()


@functools.lru_cache(maxsize=128)
def parse(data: bytes) -> Parsed:
    """The top-level elements of a whole DICOM file with preamble."""
    meta, start = _elements(data, 132, explicit=True, order="<", meta=True)
    (syntax,) = (data[e.value : e.value + e.length] for e in meta if e.tag == 0x00020010)
    uid = syntax.decode().strip("\0")
    if uid == DEFLATED:
        data = data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)
    explicit = uid != SYNTAXES["implicit"]
    order = ">" if uid == SYNTAXES["big"] else "<"
    rest, _ = _elements(data, start, explicit=explicit, order=order, meta=False)
    return Parsed(data, start, (*meta, *rest), uid == DEFLATED)


def _elements(
    data: bytes, start: int, *, explicit: bool, order: str, meta: bool
) -> tuple[list[Element], int]:
    file = BytesIO(data)
    file.seek(start)
    stop = (lambda tag, _vr, _length: tag.group != 2) if meta else None
    found, end = [], start
    for raw in data_element_generator(file, not explicit, order == "<", stop_when=stop):
        if isinstance(raw, RawDataElement):
            wide = explicit and raw.VR is not None and raw.VR.encode() in _LONG_VRS
            header = raw.value_tell - (12 if wide else 8)
            element = Element(
                int(raw.tag), header, raw.value_tell, raw.length, explicit=explicit, order=order
            )
            found.append(element)
            end = raw.value_tell + raw.length
    return found, end


def _put(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


def dicom_length(data: bytes, rng: random.Random) -> bytes:
    """An element lies about its length."""
    parsed = parse(data)
    element = rng.choice(parsed.elements)
    offset, form = element.length_field
    most = 2 ** (8 * struct.calcsize(form)) - 1
    wrong = rng.choice((0, 1, element.length - 1, element.length + 1, element.length * 2, most,
                        most - 1, rng.randrange(most)))  # fmt: skip
    return parsed.close(_put(parsed.data, offset, struct.pack(form, wrong & most)))


def dicom_vr(data: bytes, rng: random.Random) -> bytes:
    """An element has another VR; in implicit encoding, another tag."""
    parsed = parse(data)
    element = rng.choice(parsed.elements)
    if not element.explicit:
        return _put(data, element.header, struct.pack("<HH", rng.randrange(65536), 0x0010))
    return parsed.close(_put(parsed.data, element.header + 4, rng.choice(_VRS)[:2]))


def dicom_counts(data: bytes, rng: random.Random) -> bytes:
    """One or two of the attributes that say how pixels are read have other values."""
    parsed = parse(data)
    counts = [element for element in parsed.elements if element.tag in _COUNTS]
    edited = parsed.data
    for element in rng.sample(counts, rng.choice((1, 1, 2))):
        value = struct.pack(element.order + "H", rng.choice(_COUNT_VALUES))
        edited = _put(edited, element.value, value)
    return parsed.close(edited)


def _replaced(parsed: Parsed, element: Element, value: bytes) -> bytes:
    """The file with another value of any length in an element with a short or long length field."""
    value += b" " * (len(value) % 2)
    offset, form = element.length_field
    data = _put(parsed.data, offset, struct.pack(form, len(value)))
    return data[: element.value] + value + data[element.value + element.length :]


def dicom_text(data: bytes, rng: random.Random) -> bytes:
    """A textual attribute says something else: photometric interpretation, frames, window, any."""
    parsed = parse(data)
    texts = [e for e in parsed.elements if 0x00080000 < e.tag < 0x7FE00000 and e.length < 1024]
    element = rng.choice(texts)
    choices = [rng.randbytes(rng.randrange(64)), b"\xff" * 64, b"1e999", b"-1", b"nan", b"\\" * 60]
    if element.tag == 0x00280004 or rng.randrange(4) == 0:
        (element,) = (e for e in parsed.elements if e.tag == 0x00280004)
        choices = list(_PHOTOMETRIC)
    return parsed.close(_replaced(parsed, element, rng.choice(choices)))


def dicom_frames(data: bytes, rng: random.Random) -> bytes:
    """NumberOfFrames (IS) is put in or changed."""
    parsed = parse(data)
    (place,) = (e for e in parsed.elements if e.tag == 0x00280010)  # before Rows
    frames = rng.choice((b"0", b"2", b"-1", b"1000", b"2147483648", b"1e9", b"x"))
    return parsed.close(
        parsed.data[: place.header]
        + element_bytes(place, 0x00280008, b"IS", frames)
        + parsed.data[place.header :]
    )


def element_bytes(like: Element, tag: int, vr: bytes, value: bytes) -> bytes:
    """A short element in the encoding of another one."""
    value += b" " * (len(value) % 2)
    head = struct.pack(like.order + "HH", Tag(tag).group, Tag(tag).element)
    if like.explicit:
        return head + vr + struct.pack(like.order + "H", len(value)) + value
    return head + struct.pack(like.order + "I", len(value)) + value


def dicom_syntax(data: bytes, rng: random.Random) -> bytes:
    """The file says that it has another transfer syntax, or none."""
    meta = [element for element in parse(data).elements if element.tag == 0x00020010]
    raw = Parsed(data, 0, (), deflated=False)
    return _replaced(raw, meta[0], rng.choice(_OTHER_SYNTAXES).encode())


def dicom_nesting(data: bytes, rng: random.Random) -> bytes:
    """Sequences within sequences, never closed, before some element."""
    parsed = parse(data)
    element = rng.choice([e for e in parsed.elements if e.header >= parsed.start])
    nested = _SQ_ITEM * rng.choice((1, 2, 50, 70, 500, 3000))
    return parsed.close(parsed.data[: element.header] + nested + parsed.data[element.header :])


def dicom_fragment(data: bytes, rng: random.Random) -> bytes:
    """A fragment or the offset table of encapsulated pixel data lies; else a length does."""
    parsed, item = parse(data), struct.pack("<HH", 0xFFFE, 0xE000)
    at = [parsed.data.find(item, parsed.elements[-1].value)]
    while at[-1] >= 0:
        at.append(parsed.data.find(item, at[-1] + 4))
    if len(at) == 1:
        return dicom_length(data, rng)
    wrong = rng.choice((0, 1, 4, 7, 2**16, 2**31, 2**32 - 2, 2**32 - 1))
    return parsed.close(_put(parsed.data, rng.choice(at[:-1]) + 4, struct.pack("<I", wrong)))


def dicom_order(data: bytes, rng: random.Random) -> bytes:
    """An element is missing, comes twice, or comes too early."""
    parsed = parse(data)
    places = [e for e in parsed.elements if e.header >= parsed.start and e.length < 2**20]
    element, other = rng.choice(places), rng.choice(places)
    end, raw = element.value + element.length, parsed.data
    if rng.randrange(2):
        return parsed.close(raw[: element.header] + raw[end:])
    copy = raw[element.header : end]
    return parsed.close(raw[: other.header] + copy + raw[other.header :])


DICOM_EDITS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "DICOM element length": dicom_length,
    "DICOM VR": dicom_vr,
    "DICOM rows, bits, samples": dicom_counts,
    "DICOM text": dicom_text,
    "DICOM frames": dicom_frames,
    "DICOM transfer syntax": dicom_syntax,
    "DICOM nesting": dicom_nesting,
    "DICOM fragments": dicom_fragment,
    "DICOM element order": dicom_order,
}
