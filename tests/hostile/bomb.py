"""What a bomb is, and the harmless pictures that bombs are made of."""

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

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


def chest(side_px: int = 256) -> np.ndarray:
    """A smooth grey picture (rows, columns), uint8: pixels that pass for a film."""
    y, x = np.mgrid[-1 : 1 : side_px * 1j, -1 : 1 : side_px * 1j]
    film = 90 + 100 * np.exp(-((x / 0.25) ** 2)) + 30 * (np.abs(x) > 0.85) + 15 * y
    return np.clip(film, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(chest() if pixels is None else pixels).save(file, "JPEG", **options)
    return file.getvalue()


def tiny_jpeg(columns: int, rows: int) -> bytes:
    """A whole JPEG of some hundred bytes that claims any size."""
    film = jpeg(np.full((8, 8), 128, np.uint8), quality=50)
    frame = film.index(b"\xff\xc0")
    return film[: frame + 5] + struct.pack(">HH", rows, columns) + film[frame + 9 :]
