"""Edits of JPEG segments and PNG chunks that a decoder does not notice at once.

PNG checksums are mended, so that the decoder goes on. JPEG: ITU-T T.81 annex B; PNG: RFC 2083.
"""

import random
import struct
import zlib
from collections.abc import Callable

_SIDES = (0, 1, 2, 7, 255, 4096, 16_384, 30_000, 65_500, 65_535)
_LONG_SIDES = (*_SIDES, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xF7)
_SOS, _DHT, _DQT = 0xDA, 0xC4, 0xDB
_CHUNK_TYPES = (
    b"PLTE tRNS gAMA cHRM sBIT bKGD eXIf zTXt iTXt iCCP acTL fcTL fdAT IHDR IEND IDAT tIME XXXX"
).split()


def segments(data: bytes) -> list[tuple[int, int, int]]:
    """Marker, offset of the marker, and length of each segment up to the first scan."""
    found, offset = [], 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker, length = data[offset + 1], int.from_bytes(data[offset + 2 : offset + 4], "big")
        found.append((marker, offset, length))
        if marker == _SOS:
            break
        offset += 2 + length
    return found


def _put(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


def jpeg_length(data: bytes, rng: random.Random) -> bytes:
    """A segment lies about its length."""
    _, offset, length = rng.choice(segments(data))
    wrong = rng.choice((0, 1, 2, length - 1, length + 1, 0xFFFF, rng.randrange(0x10000)))
    return _put(data, offset + 2, struct.pack(">H", wrong))


def jpeg_frame(data: bytes, rng: random.Random) -> bytes:
    """The frame header claims another size, depth, number of samples or subsampling."""
    frames = [offset for marker, offset, _ in segments(data) if marker in _FRAMES]
    if not frames:
        return data
    offset = frames[0]
    place = rng.choice(("rows", "columns", "both", "precision", "samples", "component", "marker"))
    if place in ("rows", "columns", "both"):
        rows, columns = (struct.pack(">H", rng.choice(_SIDES)) for _ in range(2))
        data = _put(data, offset + 5, rows) if place != "columns" else data
        return _put(data, offset + 7, columns) if place != "rows" else data
    single = {"precision": 4, "samples": 9, "component": 10 + rng.randrange(9), "marker": 1}
    value = rng.choice(_FRAMES) if place == "marker" else rng.randrange(256)
    return _put(data, offset + single[place], bytes([value]))


def jpeg_tables(data: bytes, rng: random.Random) -> bytes:
    """Huffman or quantisation tables hold other values."""
    tables = [found for found in segments(data) if found[0] in (_DHT, _DQT)]
    _, offset, length = rng.choice(tables)
    for _ in range(rng.choice((1, 2, 8, 32))):
        data = _put(data, offset + 4 + rng.randrange(length - 2), bytes([rng.randrange(256)]))
    return data


def jpeg_scan(data: bytes, rng: random.Random) -> bytes:
    """The scan header names other components, tables or bands."""
    _, offset, length = segments(data)[-1]
    return _put(data, offset + 4 + rng.randrange(length - 2), bytes([rng.randrange(256)]))


def jpeg_marker(data: bytes, rng: random.Random) -> bytes:
    """A segment becomes another kind of segment."""
    _, offset, _ = rng.choice(segments(data))
    return _put(data, offset + 1, bytes([rng.randrange(0xC0, 0x100)]))


def jpeg_exif(data: bytes, rng: random.Random) -> bytes:
    """An EXIF segment with any orientation, and directories that lead anywhere, even in circles."""
    order, mark = rng.choice((("<", b"II"), (">", b"MM")))
    entries = [(0x0112, 3, rng.choice((1, 1, 2**16)), rng.randrange(0x10000) << 16)]
    entries += [
        (rng.randrange(0x10000), rng.randrange(16), rng.choice((0, 1, 2**31, 2**32 - 1)),
         rng.randrange(2**32))
        for _ in range(rng.randrange(20))
    ]  # fmt: skip
    body = mark + struct.pack(order + "HI", 42, rng.choice((8, 8, 8, 0, 2**32 - 1)))
    body += struct.pack(order + "H", rng.choice((len(entries), 0xFFFF)))
    body += b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    body = b"Exif\0\0" + body + struct.pack(order + "I", rng.choice((0, 8, 2**31)))
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and body of each chunk of a whole PNG."""
    found, offset = [], 8
    while offset + 8 <= len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        found.append((data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length]))
        offset += 12 + length
    return found


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def png_header(data: bytes, rng: random.Random) -> bytes:
    """The header claims another size, depth, colour type or interlacing."""
    parts = chunks(data)
    header = bytearray(parts[0][1])
    if rng.randrange(2):
        header[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 32, 255))
    else:
        at = rng.choice((0, 4))
        header[at : at + 4] = struct.pack(">I", rng.choice(_LONG_SIDES))
    return png_of([(b"IHDR", bytes(header)), *parts[1:]])


def png_length(data: bytes, rng: random.Random) -> bytes:
    """A chunk lies about its length."""
    parts = chunks(data)
    number = rng.randrange(len(parts))
    offset = 8 + sum(12 + len(body) for _, body in parts[:number])
    length = len(parts[number][1])
    wrong = rng.choice((0, max(0, length - 1), length + 1, 2**31 - 1, 2**32 - 1, length // 2))
    return _put(data, offset, struct.pack(">I", wrong))


def png_chunk(data: bytes, rng: random.Random) -> bytes:
    """A chunk too many, too few, twice, or in the wrong place."""
    parts = chunks(data)
    number = rng.randrange(len(parts))
    match rng.randrange(4):
        case 0:
            size = rng.choice((0, 1, 4, 13, 26, 256, 768))
            parts.insert(number, (rng.choice(_CHUNK_TYPES), rng.randbytes(size)))
        case 1:
            del parts[number]
        case 2:
            parts.insert(number, rng.choice(parts))
        case _:
            rng.shuffle(parts)
    return png_of(parts)


def png_pixels(data: bytes, rng: random.Random) -> bytes:
    """Other bytes in the deflated rows, before or after deflating; the checksums hold."""
    parts = chunks(data)
    picture = b"".join(body for kind, body in parts if kind == b"IDAT")
    rows = bytearray(zlib.decompress(picture) if rng.randrange(2) else picture)
    for _ in range(rng.choice((1, 8, 64))):
        rows[rng.randrange(len(rows))] = rng.randrange(256)
    body = bytes(rows) if len(rows) == len(picture) else zlib.compress(bytes(rows), 1)
    return png_of([parts[0], (b"IDAT", body), (b"IEND", b"")])


Edits = dict[str, Callable[[bytes, random.Random], bytes]]
JPEG_EDITS: Edits = {
    "JPEG segment length": jpeg_length,
    "JPEG frame header": jpeg_frame,
    "JPEG tables": jpeg_tables,
    "JPEG scan header": jpeg_scan,
    "JPEG marker": jpeg_marker,
    "JPEG EXIF": jpeg_exif,
}
PNG_EDITS: Edits = {
    "PNG header": png_header,
    "PNG chunk length": png_length,
    "PNG chunk order": png_chunk,
    "PNG pixels": png_pixels,
}
