"""Decode a JPEG or PNG film."""

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.errors import CorruptFile
from worker.imaging import rasterwalk
from worker.imaging.limits import DecodeLimits
from worker.imaging.sniff import Kind
from worker.imaging.source import Source
from worker.records import Film

Levels = NDArray[np.integer | np.floating]

_MOST_SCANS = 100  # encoders write about ten; a 100 kB file of thousands costs minutes
_COLOUR_TOLERANCE = 12  # levels of 255 between channels that JPEG alone explains in a grey film

# JPEG: what viewers show, EXIF orientation applied. PNG: alpha is wanted, so nothing is turned.
_FLAGS = {
    Kind.JPEG: cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH,
    Kind.PNG: cv2.IMREAD_UNCHANGED,
}


def decode_raster(data: bytes, limits: DecodeLimits) -> Film:
    """Decode a whole JPEG or PNG to grey.

    Grey levels are kept at any depth: 8 bits are divided by 255, 16-bit PNG by the nominal range
    (see `nominal_bits`). Colour becomes luminance (ITU-R BT.601). What alpha hides is black. EXIF
    orientation is applied to JPEG, as every viewer does; PNG is taken as stored.
    Raises TooLarge by the header alone, and CorruptFile when OpenCV cannot decode it.
    """
    source = Source(BytesIO(data))
    kind = Kind.JPEG if data.startswith(b"\xff\xd8") else Kind.PNG
    size = rasterwalk.jpeg_size(source) if kind is Kind.JPEG else rasterwalk.png_size(source)
    if size is None or not size.rows or not size.columns:
        raise CorruptFile(f"the {kind} has no usable picture header")
    limits.check_picture(size.rows, size.columns, size.samples)
    if kind is Kind.JPEG and rasterwalk.jpeg_scans(source) > _MOST_SCANS:
        raise CorruptFile(f"the JPEG has more than {_MOST_SCANS} scans")
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[kind])  # (rows, columns[, BGR[A]])
    if stored is None or stored.size == 0:
        raise CorruptFile(f"the {kind} cannot be decoded")
    pixels, notes = _grey(stored)
    return Film(pixels, str(kind), notes=tuple(notes))


def nominal_bits(most: int) -> int:
    """Bits per sample of a 16-bit file, guessed: the fewest, at least 8, that hold its maximum.

    A 12-bit film saved as 16-bit PNG keeps its values 0–4095 and would else come out nearly black.
    """
    return max(8, most.bit_length())


def _grey(stored: Levels) -> tuple[NDArray[np.float32], list[str]]:
    """(rows, columns[, BGR[A]]) → float32 (rows, columns) in [0, 1]."""
    notes: list[str] = []
    alpha = stored[..., 3] if stored.ndim == 3 and stored.shape[2] == 4 else None
    if stored.ndim == 3:
        if not _is_grey(stored):
            notes.append("colour picture: its luminance is taken")
        stored = cv2.cvtColor(np.ascontiguousarray(stored[..., :3]), cv2.COLOR_BGR2GRAY)
    most = 255
    if stored.dtype == np.uint16:
        bits = nominal_bits(int(stored.max()))
        notes.append(f"16-bit PNG taken as {bits}-bit, by its brightest pixel")
        most = 2**bits - 1
    pixels: NDArray[np.float32] = stored.astype(np.float32) / np.float32(most)
    if alpha is not None and alpha.min() < _most(alpha):
        notes.append("transparent parts are taken as black")
        pixels *= (alpha / _most(alpha)).astype(np.float32)
    return pixels, notes


def _most(stored: Levels) -> int:
    """The value of full brightness that the file's own depth, 8 or 16 bits, allows."""
    return 65_535 if stored.dtype == np.uint16 else 255


def _is_grey(stored: Levels) -> bool:
    step = max(1, max(stored.shape) // 256)
    sample = stored[::step, ::step, :3] / _most(stored)
    return bool(np.ptp(sample, axis=2).max() * 255 <= _COLOUR_TOLERANCE)
