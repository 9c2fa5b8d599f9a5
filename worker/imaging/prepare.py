"""Bring a film to the shape the model was trained on; training and serving share this.

Films are uint8 with 255 brightest, or float32 in [0, 1]: what has 8 bits keeps them to the end.
"""

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.errors import CorruptFile

Pixels = NDArray[np.float32]
Levels = NDArray[np.uint8]
Shape = tuple[int, ...]  # (rows, columns)

PREPARE_VERSION = 3  # raise it whenever decoding or preparing changes any pixel

_SPARE = 4  # times the model's side: films of more are halved first, by OpenCV's fast way


def halve(pixels: Pixels | Levels) -> Pixels | Levels:
    """The mean of each 2 × 2 block, (rows, columns) → half as many; an odd last line counts twice.

    With whole blocks OpenCV takes a path ten times as fast as its other.
    """
    rows, columns = ((side + 1) // 2 for side in pixels.shape)
    below, beside = 2 * rows - pixels.shape[0], 2 * columns - pixels.shape[1]
    if below or beside:
        pixels = _film(cv2.copyMakeBorder(pixels, 0, below, 0, beside, cv2.BORDER_REPLICATE))
    return _film(cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA))


def square(pixels: Pixels | Levels, size: int, whole: Shape | None = None) -> Pixels:
    """Squash a film to size × size, whatever its shape, as the training films were made.

    (rows, columns) → float32 (size, size) in [0, 1]. `whole` are rows and columns of the film where
    pixels may have half of them, rounded up: not all of the last line is the film's then.
    The filter is Pillow's antialiased bilinear: of Pillow's and OpenCV's filters the one that comes
    closest to how `train224` was made from its originals. It works on floats: with 8 bits in
    between, answers move in the second decimal. A size × size film keeps its pixels.
    """
    most = np.float32(255 if pixels.dtype == np.uint8 else 1)
    if pixels.shape == (size, size):
        return np.asarray(pixels / most, dtype=np.float32)
    scale = 1 if whole in (None, pixels.shape) else 2
    height, width = (side / scale for side in whole or pixels.shape)  # in pixels as they are here
    while min(pixels.shape) >= _SPARE * size:
        pixels, height, width = halve(pixels), height / 2, width / 2
    film = Image.fromarray(np.ascontiguousarray(pixels)).convert("F")
    small = film.resize((size, size), Image.Resampling.BILINEAR, (0, 0, width, height))
    return np.asarray(small, dtype=np.float32) / most


def stretch(pixels: Pixels, low_percentile: float, high_percentile: float) -> Pixels:
    """Map the film's own percentiles to 0 and 1 and clip: exposure and windowing stop to matter.

    A film without contrast comes back all zero.
    """
    ordered = np.sort(pixels, axis=None)  # half the time of `np.percentile`, for the same
    low, high = (_percentile(ordered, percent) for percent in (low_percentile, high_percentile))
    if high - low < 1e-6:
        return np.zeros_like(pixels)
    stretched: Pixels = np.clip((pixels - low) / (high - low), 0, 1)
    return stretched


def _percentile(ordered: Pixels, percent: float) -> float:
    """What lies at `percent` of a film's ordered pixels, linear between two of them."""
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    low, high = (float(value) for value in ordered[[below, min(below + 1, len(ordered) - 1)]])
    return low + (high - low) * (place - below)


def model_input(
    pixels: Pixels | Levels,
    size: int,
    low_percentile: float,
    high_percentile: float,
    whole: Shape | None = None,
) -> Pixels:
    """The one way a film becomes the model's input: squash, then stretch. float32 (size, size)."""
    return stretch(square(pixels, size, whole), low_percentile, high_percentile)


def display_picture(pixels: Pixels | Levels, longest_side_px: int, quality: int) -> bytes:
    """Encode a film as a grey 8-bit JPEG no longer than `longest_side_px`, for the report.

    Raises CorruptFile when the picture cannot be encoded.
    """
    return encode_picture(display_levels(pixels, longest_side_px), quality)


def display_levels(pixels: Pixels | Levels, longest_side_px: int) -> Levels:
    """A film no longer than `longest_side_px` in 8-bit grey levels: uint8 (rows, columns).

    It is halved while that leaves enough; the rest of the way, by a factor below two, it is
    smoothed, then interpolated. Fine lines give hardly more moiré than with OpenCV's area filter,
    and an interpolation alone would show them all; the time is a fourth of the area filter's.
    """
    scale = longest_side_px / max(pixels.shape)
    rows, columns = (max(1, round(side * scale)) for side in pixels.shape)
    while max(pixels.shape) >= 2 * longest_side_px:
        pixels = halve(pixels)
    shown = levels(pixels)
    factor = max(shown.shape) / longest_side_px
    if factor <= 1:
        return shown
    beside = (factor**2 - 1) / 12  # so wide as a triangle that shrinks by this factor
    kernel = np.array([beside, 1 - 2 * beside, beside], np.float32)
    smooth = cv2.sepFilter2D(shown, -1, kernel, kernel)
    return np.asarray(cv2.resize(smooth, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)


def levels(pixels: Pixels | Levels) -> Levels:
    """A film in 8-bit grey levels, rounded; one that has them comes back unchanged."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255), np.uint8)


def _film(pixels: NDArray[Any]) -> Pixels | Levels:
    """What OpenCV or Pillow made of a film: it has the type it had."""
    return cast("Pixels | Levels", pixels)


def encode_picture(levels: Levels, quality: int) -> bytes:
    """Grey levels, uint8 (rows, columns), as a JPEG. Raises CorruptFile when that fails."""
    done, jpeg = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise CorruptFile(f"cannot encode a picture of {levels.shape} pixels for the report")
    return jpeg.tobytes()
