"""Heat maps on a fixed scale: the same evidence has the same colour on every film.

The ramp is a stretch of inferno (perceptually uniform, readable with every common colour
vision deficiency); its opacity rises with the evidence, so that a film without evidence shows.
"""

from dataclasses import dataclass
from functools import cache
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Evidence = NDArray[np.float32]
Grey = NDArray[np.uint8]

_RAMP = (0.34, 0.90)  # inferno without its blacks (unseen over a film) and its glaring pale end
_TOP_ALPHA = 0.58  # at the top of the scale the film's structure still shows through
_SIDE_PX = 112  # of grids of 7 × 7 cells: the browser stretches it smoothly


@dataclass(frozen=True)
class Stop:
    """One colour of the legend: `offset` and `alpha` in [0, 1], `colour` as #rrggbb."""

    offset: float
    colour: str
    alpha: float


def heat_png(evidence: Evidence, scale: float, side_px: int = _SIDE_PX) -> bytes:
    """Draw the evidence grid as a square PNG with alpha, to be stretched over the whole film.

    `evidence` is float32 (h, w) in log-odds for the finding; 0 and less is fully transparent,
    `scale` and more is the top of the ramp. Raises ValueError for a grid that cannot be drawn.
    """
    levels = _levels(evidence, scale, rows=side_px, columns=side_px)
    drawn = Image.fromarray(np.rint(levels * 255).astype(np.uint8))
    colours, alphas = _palette()
    drawn.putpalette(colours)
    png = BytesIO()
    drawn.save(png, "PNG", transparency=alphas, compress_level=4)
    return png.getvalue()


def blend(
    picture: bytes | Grey, evidence: Evidence, scale: float, opacity: float, quality: int = 90
) -> bytes:
    """Lay the heat map over a film and give a colour JPEG of the film's size.

    `picture` is an encoded picture or grey uint8 (rows, columns); `opacity` in [0, 1] scales the
    ramp's own. Raises ValueError for a picture or a grid that cannot be drawn.
    """
    grey = grey_of(picture) if isinstance(picture, bytes) else picture
    rgb = lay_over(grey, evidence, scale, opacity)
    return _encode(".jpg", rgb[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, quality)


def lay_over(
    grey: Grey, evidence: Evidence, scale: float, opacity: float = 1.0
) -> NDArray[np.uint8]:
    """`blend` as pixels: RGB uint8 (rows, columns, 3)."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}, expected 0 to 1")
    rows, columns = grey.shape
    rgba = _ramp(_levels(evidence, scale, rows, columns)).astype(np.float32)
    alpha = rgba[..., 3:] * (opacity / 255)
    rgb = grey[..., None] * (1 - alpha) + rgba[..., :3] * alpha
    return (rgb + 0.5).astype(np.uint8)


def shrink(picture: bytes, longest_side_px: int, quality: int = 80) -> bytes:
    """Make an encoded picture a grey JPEG thumbnail. Raises ValueError if it cannot be decoded."""
    grey = grey_of(picture)
    scale = min(1.0, longest_side_px / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return _encode(".jpg", small, cv2.IMWRITE_JPEG_QUALITY, quality)


@cache
def legend(stops: int = 9) -> tuple[Stop, ...]:
    """The ramp's colours from 0 to the top of the scale, evenly spaced."""
    offsets = np.linspace(0, 1, stops, dtype=np.float32)
    colours = _ramp(offsets[None])[0]  # (stops, 4)
    return tuple(
        Stop(float(offset), f"#{red:02x}{green:02x}{blue:02x}", round(int(alpha) / 255, 3))
        for offset, (red, green, blue, alpha) in zip(offsets, colours, strict=True)
    )


def peak(evidence: Evidence) -> float:
    """The highest evidence of any cell, in log-odds, as it is: it may be negative."""
    return float(evidence.max())


def _levels(evidence: Evidence, scale: float, rows: int, columns: int) -> Evidence:
    """Evidence as float32 (rows, columns) in [0, 1] of the scale, smoothly upsampled.

    Negatives go first and the cubic's overshoot is cut: no pixel is hotter than the hottest cell,
    and no evidence appears where a cell speaks against the finding.
    """
    if evidence.ndim != 2 or not evidence.size or not np.isfinite(evidence).all():
        raise ValueError(f"evidence {evidence.shape} must be a finite grid (h, w)")
    if not scale > 0:
        raise ValueError(f"the heat map's scale is {scale}, expected more than 0")
    grid = np.clip(evidence / scale, 0, 1).astype(np.float32)
    smooth = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(smooth, 0, grid.max()), dtype=np.float32)


def _ramp(levels: Evidence) -> NDArray[np.uint8]:
    """Colour levels in [0, 1]: (rows, columns) → RGBA uint8 (rows, columns, 4)."""
    low, high = _RAMP
    index = np.rint((low + (high - low) * levels) * 255).astype(np.uint8)
    rgb = cv2.applyColorMap(index, cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = np.rint(_TOP_ALPHA * 255 * levels).astype(np.uint8)
    return np.dstack((rgb, alpha))


@cache
def _palette() -> tuple[bytes, bytes]:
    """The ramp in 256 steps, RGB and alpha: one byte a pixel is a quarter of the work of four."""
    ramp = _ramp(np.linspace(0, 1, 256, dtype=np.float32)[None])[0]  # (256, 4)
    return ramp[:, :3].tobytes(), ramp[:, 3].tobytes()


def grey_of(picture: bytes) -> Grey:
    """Decode a picture of our own to uint8 (rows, columns). Raises ValueError if it is none."""
    grey = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ValueError(f"the film's picture ({len(picture)} bytes) cannot be decoded")
    return grey.astype(np.uint8, copy=False)


def _encode(extension: str, pixels: NDArray[np.uint8], setting: int, value: int) -> bytes:
    done, data = cv2.imencode(extension, np.ascontiguousarray(pixels), [setting, value])
    if not done:
        raise ValueError(f"cannot encode {pixels.shape} pixels as {extension}")
    return data.tobytes()
