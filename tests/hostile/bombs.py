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
from pathlib import Path

import cv2
import numpy as np

from tests.hostile.bomb import (
    CORRUPT,
    MIB,
    NOT_A_FILM,
    SCREENED,
    SPARSE_BYTES,
    TIRING,
    TOO_LARGE,
    TRUNCATED,
    Bomb,
    chest,
    jpeg,
    tiny_jpeg,
)
from tests.hostile.dicombombs import dicom_bombs
from tests.hostile.films import SYNTAXES, dicom_film
from tests.hostile.rasterheaders import chunk, chunks, png_of


def bombs() -> list[Bomb]:
    """All bombs that are bytes; see `plant_special` for the others."""
    return [*_rasters(), *dicom_bombs(), *_preambles(), *_nothing_like_a_film()]


def tiring_bombs() -> list[Bomb]:
    """Bombs within every limit that may cost a decoder all its time or memory, three times over."""
    outcomes = (*TIRING, SCREENED, TOO_LARGE)
    return [Bomb("jpeg-90-large-scans.jpg", _many_scans(9900, 90), outcomes)]


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
        Bomb("jpeg-20000-large-scans.jpg", _many_scans(8000, 20_000), (CORRUPT,)),
        Bomb("jpeg-100000-scans.jpg", _many_scans(256, 100_000), (TRUNCATED, CORRUPT, SCREENED)),
        Bomb("jpeg-only-segments.jpg", b"\xff\xd8" + b"\xff\xfe\0\2" * 200_000 + b"\xff\xd9",
             (CORRUPT, TRUNCATED)),
        Bomb("jpeg-fill-bytes.jpg", b"\xff\xd8" + b"\xff" * 4 * MIB + b"\xd9", (CORRUPT,)),
        Bomb("jpeg-end-in-comment.jpg", jpeg()[:2] + b"\xff\xfe\0\4\xff\xd9" + jpeg()[2:-40],
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


def _many_scans(side_px: int, count: int) -> bytes:
    """A progressive JPEG that refines its pixels again and again: each scan passes over them."""
    film = jpeg(np.full((8, 8), 128, np.uint8), progressive=True)
    frame, scan = film.index(b"\xff\xc2"), film.rindex(b"\xff\xda")
    film = film[: frame + 5] + struct.pack(">HH", side_px, side_px) + film[frame + 9 :]
    return film[:scan] + film[scan:-2] * count + b"\xff\xd9"


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
    film = jpeg()
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
        Bomb("jpeg-named.dcm", jpeg(chest(300)), (SCREENED,)),
        Bomb("jpeg-then-zip.jpg", jpeg(chest(310)) + archive.getvalue(), (SCREENED,)),
        Bomb("png-chunk-only.png", chunk(b"IEND", b""), (NOT_A_FILM,)),
        Bomb("<script>alert(1)<.jpg", jpeg(chest(320)), (SCREENED,)),
        Bomb("a\nb\x1b[31m.jpg", jpeg(chest(330)), (SCREENED,)),
        Bomb("-rf.jpg", jpeg(chest(340)), (SCREENED,)),
        Bomb(os.fsdecode(b"latin-1-\xe9.jpg"), jpeg(chest(350)), (SCREENED,)),
        Bomb("n" * 251 + ".jpg", jpeg(chest(360)), (SCREENED,)),
        Bomb("con.json", jpeg(chest(370)), (SCREENED,)),
    ]  # fmt: skip
