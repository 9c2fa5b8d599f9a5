"""DICOM objects that claim or grow to much, or nest without end."""

import io
import struct
import zlib

import numpy as np
import pydicom

from tests.hostile.bomb import (
    CORRUPT,
    MIB,
    NO_PIXELS,
    SCREENED,
    TOO_LARGE,
    TRUNCATED,
    Bomb,
    chest,
    tiny_jpeg,
)
from tests.hostile.films import JPEG_BASELINE, SYNTAXES, dicom_film


def dicom_bombs() -> list[Bomb]:
    """All of them."""
    film = chest()
    explicit, deflated = SYNTAXES["explicit"], SYNTAXES["deflated"]
    native = dicom_film(film, explicit)
    huge = dicom_film(film, explicit, Rows=65_535, Columns=65_535)
    frames = {"NumberOfFrames": str(2**31)}
    return [
        Bomb("dicom-65535-squared.dcm", huge, (TOO_LARGE,)),
        Bomb("dicom-65535-squared-jpeg.dcm",
             dicom_film(film, JPEG_BASELINE, Rows=65_535, Columns=65_535), (TOO_LARGE,)),
        Bomb("dicom-65535-squared-rle.dcm",
             dicom_film(film, SYNTAXES["rle"], Rows=65_535, Columns=65_535), (TOO_LARGE,)),
        Bomb("dicom-2147483648-frames.dcm", dicom_film(film, explicit, **frames), (TOO_LARGE,)),
        Bomb("dicom-2147483648-frames-rle.dcm", dicom_film(film, SYNTAXES["rle"], **frames),
             (TOO_LARGE,)),
        Bomb("dicom-jpeg-of-65500-squared.dcm", _with_frame(film, tiny_jpeg(65_500, 65_500)),
             (TOO_LARGE,)),
        Bomb("dicom-no-rows-at-all.dcm", dicom_film(film, explicit, Rows=0, Columns=0),
             (CORRUPT,)),
        Bomb("dicom-deflate-bomb.dcm", _deflate_bomb(dicom_film(film, deflated), 600 * MIB),
             (TOO_LARGE,)),
        Bomb("dicom-deflate-300-mib.dcm", _deflate_bomb(dicom_film(film, deflated), 300 * MIB),
             (CORRUPT, TOO_LARGE, TRUNCATED, NO_PIXELS, SCREENED)),
        Bomb("dicom-10000-levels.dcm", _nested(native, 10_000, closed=False),
             (CORRUPT, TRUNCATED, NO_PIXELS)),
        Bomb("dicom-10000-levels-closed.dcm", _nested(native, 10_000, closed=True),
             (CORRUPT, SCREENED)),
        Bomb("dicom-300000-levels.dcm", _nested(native, 300_000, closed=False),
             (CORRUPT, TRUNCATED, NO_PIXELS)),
        Bomb("dicom-500000-elements.dcm", _many_elements(native, 500_000), (SCREENED, CORRUPT)),
        Bomb("dicom-500000-fragments.dcm", _many_fragments(film, 500_000),
             (CORRUPT, TRUNCATED, SCREENED, TOO_LARGE)),
        Bomb("dicom-4-gib-element.dcm", _long_element(native), (TRUNCATED, CORRUPT)),
        Bomb("dicom-lut-of-65536.dcm", _huge_lut(film), (SCREENED, CORRUPT)),
    ]  # fmt: skip


def _with_frame(film: np.ndarray, frame: bytes) -> bytes:
    return dicom_film(film, JPEG_BASELINE, PixelData=pydicom.encaps.encapsulate([frame]))


def _split(native: bytes) -> tuple[bytes, bytes]:
    """A native film before and after the place of private elements ahead of Rows."""
    at = native.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    return native[:at], native[at:]


def _deflate_bomb(deflated: bytes, size: int) -> bytes:
    """A deflated film with a private element of zeros before its pixels."""
    start = 144 + pydicom.dcmread(io.BytesIO(deflated)).file_meta.FileMetaInformationGroupLength
    before, after = _split(zlib.decompress(deflated[start:], -zlib.MAX_WBITS))
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = struct.pack("<HH2sHI", 0x0027, 0x1001, b"OB", 0, size)
    body = stream.compress(before + head)
    body += b"".join(stream.compress(bytes(MIB)) for _ in range(size // MIB))
    return deflated[:start] + body + stream.compress(after) + stream.flush()


def _nested(native: bytes, levels: int, *, closed: bool) -> bytes:
    before, after = _split(native)
    down = struct.pack("<HH2sHI", 0x0027, 0x1001, b"SQ", 0, 0xFFFFFFFF)
    down += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    up = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return before + down * levels + (up * levels if closed else b"") + after


def _many_elements(native: bytes, count: int) -> bytes:
    before, after = _split(native)
    return before + struct.pack("<HH2sH", 0x0027, 0x1001, b"LO", 0) * count + after


def _many_fragments(film: np.ndarray, count: int) -> bytes:
    whole = dicom_film(film, JPEG_BASELINE)
    end = whole.rindex(struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
    return whole[:end] + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count + whole[end:]


def _long_element(native: bytes) -> bytes:
    before, after = _split(native)
    return before + struct.pack("<HH2sHI", 0x0027, 0x1001, b"OB", 0, 0xFFFFFFFE) + after


def _huge_lut(film: np.ndarray) -> bytes:
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.LUTData = [0, 0, 16], np.arange(65_536, dtype="<u2").tobytes()
    lut["LUTData"].VR = "OW"
    return dicom_film(film, SYNTAXES["explicit"], VOILUTSequence=pydicom.Sequence([lut]))
