"""Files made to take a decoder down: small ones that claim or grow to much, and what is no film.

Each bomb says which outcomes are right for it. Some hold a good film behind a strange beginning:
they are to be screened.
"""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydicom
from PIL import Image

from tests.hostile.films import JPEG_BASELINE, SYNTAXES, dicom_film
from tests.hostile.rasterheaders import chunk, chunks, png_of

MIB = 1 << 20
SPARSE_BYTES = 600 * MIB  # more than [decode] max_file_mb
NOT_A_FILM, TOO_LARGE = "not-a-film", "too-large"
CORRUPT, TRUNCATED, NO_PIXELS = "corrupt-file", "truncated-file", "no-pixel-data"
TIRING = ("quarantined",)  # after three time-outs
SCREENED = "screened"


@dataclass(frozen=True)
class Bomb:
    """A hostile file: its name, its bytes, and the outcomes that are right for it."""

    name: str
    data: bytes
    outcomes: tuple[str, ...]


def bombs() -> list[Bomb]:
    """All bombs that are bytes; see `plant_special` for the others."""
    return [*_rasters(), *_dicoms(), *_preambles(), *_nothing_like_a_film()]


def tiring_bombs() -> list[Bomb]:
    """Bombs that cost a decoder all the time it may have, three times over."""
    return [Bomb("jpeg-20000-large-scans.jpg", _many_scans(8000, 20_000), TIRING)]


def plant_special(folder: Path) -> dict[str, tuple[str, ...]]:
    """Put what has no bytes of its own into a folder: the names that have an outcome, and which.

    Links, a pipe and an empty folder have none: they stay where they are.
    """
    with (folder / "bomb-sparse.dcm").open("wb") as file:
        file.truncate(SPARSE_BYTES)
    (folder / "bomb-link.dcm").symlink_to("/dev/zero")
    (folder / "bomb-dangling.jpg").symlink_to("nowhere")
    (folder / "bomb-loop").symlink_to(folder)
    os.mkfifo(folder / "bomb-pipe.dcm")
    (folder / "bomb-folder.dcm").mkdir(exist_ok=True)
    return {"bomb-sparse.dcm": (TOO_LARGE,)}


def chest(side_px: int = 256) -> np.ndarray:
    """A smooth grey picture (rows, columns), uint8: pixels that pass for a film."""
    y, x = np.mgrid[-1 : 1 : side_px * 1j, -1 : 1 : side_px * 1j]
    film = 90 + 100 * np.exp(-((x / 0.25) ** 2)) + 30 * (np.abs(x) > 0.85) + 15 * y
    return np.clip(film, 0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(chest() if pixels is None else pixels).save(file, "JPEG", **options)
    return file.getvalue()


def _rasters() -> list[Bomb]:
    film = bytes(cv2.imencode(".png", chest())[1])
    parts = chunks(film)
    zeros = zlib.compress(bytes(100 * MIB), 9)
    return [
        Bomb("png-30000-squared.png", _huge_png(30_000), (TOO_LARGE,)),
        Bomb("png-9990-squared.png", _huge_png(9990), (SCREENED, TOO_LARGE)),
        Bomb("png-2147483647-squared.png", _huge_png(2**31 - 1, rows_of_data=10), (TOO_LARGE,)),
        Bomb("png-zero-sides.png", _huge_png(0, rows_of_data=1), (CORRUPT,)),
        Bomb("png-ztxt.png", png_of([parts[0], (b"zTXt", b"a\0\0" + zeros), *parts[1:]]),
             (SCREENED, CORRUPT, TOO_LARGE)),
        Bomb("png-iccp.png", png_of([parts[0], (b"iCCP", b"a\0\0" + zeros), *parts[1:]]),
             (SCREENED, CORRUPT, TOO_LARGE)),
        Bomb("png-100000-chunks.png", png_of([parts[0], *[(b"tEXt", b"a\0b")] * 100_000,
             *parts[1:]]), (SCREENED, CORRUPT, TRUNCATED)),
        Bomb("png-animated.png", _animated_png(parts), (SCREENED, CORRUPT, TOO_LARGE)),
        Bomb("png-idat-too-long.png", png_of([parts[0], (b"IDAT", zeros), parts[-1]]),
             (SCREENED, CORRUPT, TOO_LARGE)),
        Bomb("jpeg-304-bytes.jpg", tiny_jpeg(7789, 56_321), (TOO_LARGE,)),
        Bomb("jpeg-65500-squared.jpg", tiny_jpeg(65_500, 65_500), (TOO_LARGE,)),
        Bomb("jpeg-9000-squared.jpg", tiny_jpeg(9000, 9000), (SCREENED, CORRUPT, TOO_LARGE)),
        Bomb("jpeg-100000-scans.jpg", _many_scans(256, 100_000), (TRUNCATED, CORRUPT, SCREENED)),
        Bomb("jpeg-only-segments.jpg", b"\xff\xd8" + b"\xff\xfe\0\2" * 200_000 + b"\xff\xd9",
             (CORRUPT, TRUNCATED)),
        Bomb("jpeg-fill-bytes.jpg", b"\xff\xd8" + b"\xff" * 4 * MIB + b"\xd9", (CORRUPT,)),
        Bomb("jpeg-end-in-comment.jpg", _jpeg()[:2] + b"\xff\xfe\0\4\xff\xd9" + _jpeg()[2:-40],
             (TRUNCATED,)),
    ]  # fmt: skip


def _huge_png(side: int, rows_of_data: int | None = None) -> bytes:
    """A grey PNG whose rows, all zero, deflate to a thousandth."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    stream, rows = zlib.compressobj(9), side if rows_of_data is None else rows_of_data
    row = bytes(min(side, 1 << 20) + 1)
    body = b"".join(stream.compress(row) for _ in range(rows)) + stream.flush()
    return png_of([(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")])


def _animated_png(parts: list[tuple[bytes, bytes]]) -> bytes:
    """An animation of a million frames with one of another size."""
    control = struct.pack(">IIIIIHHBB", 0, 2**31 - 1, 2**31 - 1, 0, 0, 1, 1, 0, 0)
    return png_of([parts[0], (b"acTL", struct.pack(">II", 1_000_000, 0)), (b"fcTL", control),
                   *parts[1:-1], (b"fcTL", b"\0\0\0\1" + control[4:]),
                   (b"fdAT", b"\0\0\0\2" + parts[1][1]), parts[-1]])  # fmt: skip


def tiny_jpeg(columns: int, rows: int) -> bytes:
    """A whole JPEG of some hundred bytes that claims any size."""
    film = _jpeg(np.full((8, 8), 128, np.uint8), quality=50)
    frame = film.index(b"\xff\xc0")
    return film[: frame + 5] + struct.pack(">HH", rows, columns) + film[frame + 9 :]


def _many_scans(side_px: int, count: int) -> bytes:
    """A progressive JPEG that refines its pixels again and again: each scan passes over them."""
    film = _jpeg(np.full((8, 8), 128, np.uint8), progressive=True)
    frame, scan = film.index(b"\xff\xc2"), film.rindex(b"\xff\xda")
    film = film[: frame + 5] + struct.pack(">HH", side_px, side_px) + film[frame + 9 :]
    return film[:scan] + film[scan:-2] * count + b"\xff\xd9"


def _dicoms() -> list[Bomb]:
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


def _preambles() -> list[Bomb]:
    """A good film whose preamble starts like something else (PS3.10 7.1 allows any)."""
    film = dicom_film(chest(), SYNTAXES["explicit"])
    beginnings = {"mz": b"MZ\x90\0", "elf": b"\x7fELF", "pdf": b"%PDF-1.7\n",
                  "script": b"#!/bin/sh", "jpeg": b"\xff\xd8\xff\xe0",
                  "png": b"\x89PNG\r\n\x1a\n", "tiff": b"II*\0",
                  "html": b"<html><script>alert(1)</script>"}  # fmt: skip
    return [
        Bomb(f"preamble-{name}.dcm", head.ljust(128, b"\0") + film[128:], (SCREENED,))
        for name, head in beginnings.items()
    ]


def _nothing_like_a_film() -> list[Bomb]:
    film = _jpeg()
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("film.jpg", film)
        zipped.writestr("zeros", bytes(100 * MIB))
    with tarfile.open(fileobj=tar, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("../../etc/film.jpg"), io.BytesIO())
    html = b"<!doctype html><title>404</title>" + b"not found " * 50
    files = {
        "zip-named.dcm": archive.getvalue(), "gzip-named.jpg": gzip.compress(film, mtime=0),
        "gzip-bomb.png": gzip.compress(bytes(100 * MIB), mtime=0), "tar-named.dcm": tar.getvalue(),
        "html-named.dcm": html, "one-byte.dcm": b"D", "text.jpg": b"not a film\n",
        "zeros.dcm": bytes(10_000), "bitmap.jpg": b"BM" + bytes(500), "gif.png": b"GIF89a" + film,
        "only-prefix.dcm": b"x" * 300,
    }  # fmt: skip
    return [
        *(Bomb(name, data, (NOT_A_FILM,)) for name, data in files.items()),
        Bomb("empty.dcm", b"", (TRUNCATED,)),
        Bomb("only-a-preamble.dcm", b"\0" * 128 + b"DICM", (TRUNCATED,)),
        Bomb("only-a-start.jpg", b"\xff\xd8\xff", (TRUNCATED,)),
        Bomb("only-a-signature.png", b"\x89PNG\r\n\x1a\n", (TRUNCATED,)),
        Bomb("jpeg-named.dcm", _jpeg(chest(300)), (SCREENED,)),
        Bomb("jpeg-then-zip.jpg", _jpeg(chest(310)) + archive.getvalue(), (SCREENED,)),
        Bomb("png-chunk-only.png", chunk(b"IEND", b""), (NOT_A_FILM,)),
        Bomb("<script>alert(1)<.jpg", _jpeg(chest(320)), (SCREENED,)),
        Bomb("a\nb\x1b[31m.jpg", _jpeg(chest(330)), (SCREENED,)),
        Bomb("-rf.jpg", _jpeg(chest(340)), (SCREENED,)),
        Bomb(os.fsdecode(b"latin-1-\xe9.jpg"), _jpeg(chest(350)), (SCREENED,)),
        Bomb("n" * 251 + ".jpg", _jpeg(chest(360)), (SCREENED,)),
        Bomb("con.json", _jpeg(chest(370)), (SCREENED,)),
    ]  # fmt: skip
