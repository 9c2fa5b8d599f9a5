"""Films to calibrate and to compare with: real ones from a folder, else noise."""

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from models.cards import InputConstants
from worker.config import usable_cores
from worker.errors import FilmError, NothingRead
from worker.export.formats import Films
from worker.folders import regular_files
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.sandbox import DecoderPool
from worker.progress import Tell, nobody

MOST_FILMS = 512
_NOISE_FILMS, _NOISE_SEED, _NOISE_PX = 32, 20, 8
NOISE = f"noise with the seed {_NOISE_SEED}, no real films"
_PICTURE_PX, _QUALITY = 256, 1  # of the picture that nobody looks at


def noise(size_px: int) -> Films:
    """Smooth random pictures in [0, 1], (N, S, S), the same each time: they show a bad export."""
    shape = (_NOISE_FILMS, _NOISE_PX, _NOISE_PX)
    coarse = np.random.default_rng(_NOISE_SEED).random(shape, np.float32)
    films = np.stack([cv2.resize(one, (size_px, size_px)) for one in coarse])
    return films.astype(np.float32)


def read_films(folder: Path, constants: InputConstants, tell: Tell = nobody) -> Films:
    """The films at or below `folder`, prepared as the card says, (N, S, S).

    Of more than `MOST_FILMS`, that many, spread evenly. Films that cannot be read or that tags or
    pixels forbid are left out. Raises NothingRead when there are not two.
    """
    paths = list(regular_files(folder))
    chosen = paths[:: -(-len(paths) // MOST_FILMS) or 1]
    settings = PrepareSettings(
        size_px=constants.size_px,
        stretch_low=constants.low_percentile,
        stretch_high=constants.high_percentile,
        picture_px=_PICTURE_PX,
        quality=_QUALITY,
    )
    films = []
    with closing(DecoderPool(settings, DecodeLimits(), usable_cores())) as pool:
        for number, decoded in enumerate([pool.submit(path) for path in chosen], start=1):
            try:
                film = decoded.result()
            except FilmError:
                continue
            finally:
                tell("reading films", number, len(chosen), "film")
            if film.refusal is None:
                films.append(film.model_input)
    if len(films) < 2:
        raise NothingRead(f"fewer than two films could be read in {folder}: name more")
    return np.stack(films)
