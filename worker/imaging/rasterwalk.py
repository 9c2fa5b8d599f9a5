"""Walk the segments of JPEG and the chunks of PNG without decoding them.

JPEG: ITU-T T.81 annex B; JPEG-LS and lossless JPEG share its markers. PNG: RFC 2083 chapter 3.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from worker.imaging.source import Source

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG2000_START = b"\xff\x4f\xff\x51"  # SOC and SIZ; some files wrap them in JP2 boxes
_MAX_SEGMENTS = 100_000  # a bound on work; real films have some tens

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_STANDALONE = {0x01, _SOI, *range(0xD0, 0xD8)}  # markers without a length (T.81 table B.1)
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOFn, and SOF55 of JPEG-LS

# What ends entropy-coded data: any marker but stuffing, restarts and fill bytes.
_SCAN_END = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_MARKER = re.compile(rb"\xff[\x01-\xfe]")


@dataclass(frozen=True)
class Size:
    """What a header claims: pixels, samples per pixel and bits per sample."""

    rows: int
    columns: int
    samples: int
    bits: int


@dataclass(frozen=True)
class Outline:
    """What one walk over the segments of a JPEG finds.

    `size` is that of the first frame header, `None` when there is none. Each of the `scans` may
    cost a decoder a pass over the whole picture. It `is_complete` when the walk reaches the end
    marker; bytes after that do not matter.
    """

    size: Size | None
    scans: int
    is_complete: bool


def jpeg_outline(source: Source, start: int = 0) -> Outline:
    """Walk a JPEG that begins at `start`, once.

    Thumbnails lie inside APPn segments, which the walk steps over.
    """
    size, frames, scans = None, 0, 0
    for marker, offset in _segments(source, start):
        if marker in _FRAMES and not frames:
            size, frames = _frame_size(source, offset), 1
        scans += marker == _SOS
        if marker == _EOI:
            return Outline(size, scans, True)
    return Outline(size, scans, False)


def _frame_size(source: Source, offset: int) -> Size | None:
    header = source.read_at(offset + 2, 6)
    if len(header) < 6:
        return None
    bits, rows, columns, samples = struct.unpack(">BHHB", header)
    return Size(rows, columns, samples, bits)


def _segments(source: Source, start: int) -> Iterator[tuple[int, int]]:
    """Markers with the offset of their length field; ends after EOI or where the file does."""
    offset = start + 2
    pattern = _MARKER
    for _ in range(_MAX_SEGMENTS):
        found = _find(source, offset, pattern)
        if found is None:
            return
        marker, offset = found
        yield marker, offset
        if marker == _EOI:
            return
        pattern = _MARKER
        if marker in _STANDALONE:
            continue
        length = source.read_at(offset, 2)
        if len(length) < 2:
            return
        offset += max(2, int.from_bytes(length, "big"))
        if marker == _SOS:
            pattern = _SCAN_END


def _find(source: Source, offset: int, pattern: re.Pattern[bytes]) -> tuple[int, int] | None:
    near = source.read_at(offset, 2)  # most segments follow at once: spare the large read
    if pattern.fullmatch(near):
        return near[1], offset + 2
    for base, piece in source.chunks(offset, overlap=1):
        match = pattern.search(piece)
        if match:
            return match.group()[1], base + match.end()
    return None


def png_size(source: Source) -> Size | None:
    """The header chunk of a PNG; `None` when it is not there."""
    head = source.read_at(0, 26)
    if len(head) < 26 or head[12:16] != b"IHDR":
        return None
    columns, rows, bits, colour = struct.unpack(">IIBB", head[16:26])
    samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 4)
    return Size(rows, columns, samples, bits)


def png_is_complete(source: Source) -> bool:
    """Whether the walk over the chunks reaches IEND with its checksum."""
    offset = len(PNG_SIGNATURE)
    for _ in range(_MAX_SEGMENTS):
        head = source.read_at(offset, 8)
        if len(head) < 8:
            return False
        end = offset + 12 + int.from_bytes(head[:4], "big")
        if head[4:] == b"IEND":
            return end <= source.size
        offset = end
    return True  # no film has so many chunks: let the decoder say so


def jpeg2000_size(source: Source, start: int = 0) -> Size | None:
    """The SIZ segment of a JPEG 2000 codestream (ISO 15444-1 A.5.1); `None` for anything else."""
    head = source.read_at(start, 43)
    if len(head) < 43 or head[:4] != JPEG2000_START:
        return None
    width, height, left, top = struct.unpack(">4I", head[8:24])
    samples, depth = struct.unpack(">HB", head[40:43])
    return Size(max(0, height - top), max(0, width - left), samples, (depth & 0x7F) + 1)
