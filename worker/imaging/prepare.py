"""Bring a film to the shape the model was trained on; training and serving share this."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.errors import CorruptFile

Pixels = NDArray[np.float32]
Levels = NDArray[np.uint8]

PREPARE_VERSION = 1  # raise it whenever decoding or preparing changes any pixel

_REDUCING_GAP = 2.0  # Pillow shrinks by whole factors first, then filters: same picture, less work


def square(pixels: Pixels, size: int) -> Pixels:
    """Squash a film to size × size, whatever its shape, as the training films were made.

    Takes and gives float32 in [0, 1], (rows, columns) → (size, size). The filter is Pillow's
    antialiased bilinear: of Pillow's and OpenCV's filters the one that comes closest to how
    `train224` was made from its originals. A size × size film comes back unchanged.
    """
    if pixels.shape == (size, size):
        return pixels
    film = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    small = film.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)
    square_film: Pixels = np.asarray(small, dtype=np.float32)
    return square_film


def stretch(pixels: Pixels, low_percentile: float, high_percentile: float) -> Pixels:
    """Map the film's own percentiles to 0 and 1 and clip: exposure and windowing stop to matter.

    A film without contrast comes back all zero.
    """
    low, high = (float(p) for p in np.percentile(pixels, (low_percentile, high_percentile)))
    if high - low < 1e-6:
        return np.zeros_like(pixels)
    stretched: Pixels = np.clip((pixels - low) / (high - low), 0, 1)
    return stretched


def model_input(pixels: Pixels, size: int, low_percentile: float, high_percentile: float) -> Pixels:
    """The one way a film becomes the model's input: squash, then stretch. float32 (size, size)."""
    return stretch(square(pixels, size), low_percentile, high_percentile)


def display_picture(pixels: Pixels, longest_side_px: int, quality: int) -> bytes:
    """Encode a film as a grey 8-bit JPEG no longer than `longest_side_px`, for the report.

    Raises CorruptFile when the picture cannot be encoded.
    """
    return encode_picture(display_levels(pixels, longest_side_px), quality)


def display_levels(pixels: Pixels, longest_side_px: int) -> Levels:
    """A film no longer than `longest_side_px` in 8-bit grey levels: uint8 (rows, columns)."""
    longest = max(pixels.shape)
    if longest > longest_side_px:
        scale = longest_side_px / longest
        rows, columns = (max(1, round(side * scale)) for side in pixels.shape)
        pixels = np.asarray(
            cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32
        )
    levels: Levels = np.clip(pixels * 255 + 0.5, 0, 255).astype(np.uint8)
    return levels


def encode_picture(levels: Levels, quality: int) -> bytes:
    """Grey levels, uint8 (rows, columns), as a JPEG. Raises CorruptFile when that fails."""
    done, jpeg = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise CorruptFile(f"cannot encode a picture of {levels.shape} pixels for the report")
    return jpeg.tobytes()
