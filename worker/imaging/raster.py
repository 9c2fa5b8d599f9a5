"""Decode a JPEG or PNG film."""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.errors import CorruptFile, TruncatedFile
from worker.imaging import rasterwalk
from worker.imaging.limits import DecodeLimits
from worker.imaging.rasterwalk import Size
from worker.imaging.sniff import Kind
from worker.imaging.source import Source
from worker.records import Film

Stored = NDArray[np.integer | np.floating]  # as OpenCV types it: uint8 or uint16
Grey = NDArray[np.uint8] | NDArray[np.float32]

# Sides from which a JPEG is decoded at half scale: twice a report's picture, four times the model's
# input. A site that wants larger pictures has them decoded whole, and is another preparation.
HALF_LONG_PX, HALF_SHORT_PX = 2048, 896

_MOST_SCANS = 100  # encoders write about ten; a 100 kB file of thousands costs minutes
_COLOUR_TOLERANCE = 12  # levels of 255 between channels that JPEG alone explains in a grey film

_JPEG = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH  # what viewers show, EXIF orientation applied
_PNG = cv2.IMREAD_UNCHANGED  # alpha is wanted, so nothing is turned


def decode_raster(data: bytes, kind: Kind, limits: DecodeLimits, picture_px: int = 0) -> Film:
    """Decode a JPEG or PNG to grey.

    What has 8 bits keeps them; 16-bit PNG is divided by the nominal range (see `nominal_bits`).
    Colour becomes luminance (ITU-R BT.601). What alpha hides is black. EXIF orientation is applied
    to JPEG, as every viewer does; PNG is taken as stored. A large JPEG is decoded at half scale,
    unless its longest side would then have less than `picture_px`.
    Raises TruncatedFile for a file without its end, TooLarge by the header alone, and CorruptFile
    when OpenCV cannot decode it.
    """
    source = Source(BytesIO(data))
    if kind is Kind.JPEG:
        stored, rows, columns = _decoded_jpeg(data, source, limits, picture_px)
    else:
        _check(rasterwalk.png_size(source), rasterwalk.png_is_complete(source), kind, limits)
        stored = _decoded(data, _PNG, kind)
        rows, columns = stored.shape[:2]
    pixels, notes = _grey(stored)
    return Film(pixels, str(kind), rows, columns, notes=tuple(notes))


def nominal_bits(most: int) -> int:
    """Bits per sample of a 16-bit file, guessed: the fewest, at least 8, that hold its maximum.

    A 12-bit film saved as 16-bit PNG keeps its values 0–4095 and would else come out nearly black.
    """
    return max(8, most.bit_length())


def _decoded_jpeg(
    data: bytes, source: Source, limits: DecodeLimits, picture_px: int
) -> tuple[Stored, int, int]:
    """What is decoded, (rows, columns[, BGR]), with rows and columns of the whole film as shown."""
    outline = rasterwalk.jpeg_outline(source)
    size = _check(outline.size, outline.is_complete, Kind.JPEG, limits)
    if outline.scans > _MOST_SCANS:
        raise CorruptFile(f"the JPEG has more than {_MOST_SCANS} scans")
    if not _is_halved(size, picture_px):
        stored = _decoded(data, _JPEG, Kind.JPEG)
        return stored, *stored.shape[:2]
    colours = cv2.IMREAD_REDUCED_GRAYSCALE_2 if size.samples == 1 else cv2.IMREAD_REDUCED_COLOR_2
    stored = _decoded(data, colours, Kind.JPEG)
    if stored.shape[:2] == (_half(size.rows), _half(size.columns)):
        return stored, size.rows, size.columns
    if stored.shape[:2] == (_half(size.columns), _half(size.rows)):  # turned, as EXIF says
        return stored, size.columns, size.rows
    return stored, *stored.shape[:2]  # a lossless JPEG has no half scale


def _is_halved(size: Size, picture_px: int) -> bool:
    short, long = sorted((size.rows, size.columns))
    can_be_told = short == long or _half(short) != _half(long)  # whether EXIF has turned it
    is_large = long >= HALF_LONG_PX and short >= HALF_SHORT_PX
    return is_large and can_be_told and _half(long) >= picture_px


def _half(side: int) -> int:
    return (side + 1) // 2


def _check(size: Size | None, is_complete: bool, kind: Kind, limits: DecodeLimits) -> Size:
    """The header's size, if file and picture may be decoded."""
    if not is_complete:
        raise TruncatedFile(f"the {kind} ends before its picture does: copy it again")
    if size is None or not size.rows or not size.columns:
        raise CorruptFile(f"the {kind} has no usable picture header")
    limits.check_picture(size.rows, size.columns, size.samples)
    return size


def _decoded(data: bytes, flags: int, kind: Kind) -> Stored:
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if stored is None or stored.size == 0:
        raise CorruptFile(f"the {kind} cannot be decoded")
    return stored  # (rows, columns[, BGR[A]])


def _grey(stored: Stored) -> tuple[Grey, list[str]]:
    """(rows, columns[, BGR[A]]) → (rows, columns): 8 bits as they are, 16 bits in [0, 1]."""
    notes: list[str] = []
    alpha = stored[..., 3] if stored.ndim == 3 and stored.shape[2] == 4 else None
    if stored.ndim == 3:
        if not _is_grey(stored):
            notes.append("colour picture: its luminance is taken")
        stored = cv2.cvtColor(np.ascontiguousarray(stored[..., :3]), cv2.COLOR_BGR2GRAY)
    grey: NDArray[Any] = stored
    if stored.dtype == np.uint16:
        bits = nominal_bits(int(stored.max()))
        notes.append(f"16-bit PNG taken as {bits}-bit, by its brightest pixel")
        grey = stored.astype(np.float32) / np.float32(2**bits - 1)
    if alpha is not None and alpha.min() < _most(alpha):
        notes.append("transparent parts are taken as black")
        grey = cv2.multiply(grey, alpha.astype(grey.dtype), scale=1 / _most(alpha))
    return grey, notes


def _most(stored: Stored) -> int:
    """The value of full brightness that the file's own depth, 8 or 16 bits, allows."""
    return 65_535 if stored.dtype == np.uint16 else 255


def _is_grey(stored: Stored) -> bool:
    step = max(1, max(stored.shape) // 256)
    sample = stored[::step, ::step, :3] / _most(stored)
    return bool(np.ptp(sample, axis=2).max() * 255 <= _COLOUR_TOLERANCE)
