"""Mutants of real films: the same seed always gives the same files.

Every small film is cut at every 512 bytes. The rest are drawn: each mutant has a random generator
of its own, so that a campaign that is resumed goes on with the very same ones.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from tests.hostile.dicomheaders import DICOM_EDITS
from tests.hostile.films import SourceFilm
from tests.hostile.rasterheaders import JPEG_EDITS, PNG_EDITS

CUT_EVERY_BYTES = 512
HEADER_BYTES = 1024
_FULL_SIZE_EVERY = 40  # of the drawn mutants one in so many is of a full-size film
_TRIES = 20
_EDITS = {".jpg": JPEG_EDITS, ".png": PNG_EDITS, ".dcm": DICOM_EDITS}

Edit = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Mutant:
    """A broken film. `cut` says that it is what a half-finished copy leaves: never to be screened.

    `kind` is the mutation, for the table of outcomes.
    """

    name: str
    kind: str
    data: bytes
    cut: bool


def mutants(films: list[SourceFilm], seed: int, count: int, start: int = 0) -> Iterator[Mutant]:
    """Mutants number `start` to `count`: all cuts first (a third at the most), then drawn ones."""
    cuts = _cuts(films, most=count // 3)
    for number in range(start, count):
        if number < len(cuts):
            film, offset = cuts[number]
            yield _mutant(number, film, "cut every 512 bytes", film.data[:offset])
        else:
            yield _drawn(films, number, random.Random(f"{seed}:{number}"))


def _cuts(films: list[SourceFilm], most: int) -> list[tuple[SourceFilm, int]]:
    """Every cut of small films, film after film; where that is too many, spread over all films."""
    every = [
        (film, offset)
        for film in films
        if not film.full_size
        for offset in range(CUT_EVERY_BYTES, len(film.data), CUT_EVERY_BYTES)
    ]
    step = max(1, -(-len(every) // max(1, most)))
    return every[::step]


def _drawn(films: list[SourceFilm], number: int, rng: random.Random) -> Mutant:
    """One random mutation of a random film, drawn again while it changes nothing."""
    full_size = rng.randrange(_FULL_SIZE_EVERY) == 0
    film = rng.choice([film for film in films if film.full_size == full_size])
    edits: dict[str, Edit] = GENERAL_EDITS | _EDITS[film.extension]
    for _ in range(_TRIES):
        kind = rng.choice(sorted([*edits, "splice"]))
        if kind == "splice":
            data = _splice(film.data, rng.choice(films).data, rng)
        else:
            data = edits[kind](film.data, rng)
        if data != film.data:
            break
    return _mutant(number, film, kind, data)


def _mutant(number: int, film: SourceFilm, kind: str, data: bytes) -> Mutant:
    name = f"mutant-{number:05}-{kind.replace(' ', '_')}{film.extension}"
    return Mutant(name, kind, data, film.is_cut(data))


def _flip(data: bytes, rng: random.Random, first: int, last: int) -> bytes:
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 8, 16, 32, 64))):
        flipped[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def flip_in_header(data: bytes, rng: random.Random) -> bytes:
    """Flip 1 to 64 bits of the first kilobyte."""
    return _flip(data, rng, 0, min(HEADER_BYTES, len(data)))


def flip_in_data(data: bytes, rng: random.Random) -> bytes:
    """Flip 1 to 64 bits after the first kilobyte."""
    return _flip(data, rng, min(HEADER_BYTES, len(data) - 1), len(data))


def cut_anywhere(data: bytes, rng: random.Random) -> bytes:
    """Leave off the end, from a random byte on."""
    return data[: rng.randrange(1, len(data))]


def unfilled_tail(data: bytes, rng: random.Random) -> bytes:
    """Zeros from a block on: a copy that was given its whole size first, then stopped."""
    block = min(4096, len(data) // 2)
    filled = block * rng.randrange(1, len(data) // block)
    return data[:filled].ljust(len(data), b"\0")


def _block(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + 2 ** rng.randrange(13))


def repeat_block(data: bytes, rng: random.Random) -> bytes:
    """A block of up to 4 KiB comes twice."""
    start, end = _block(data, rng)
    return data[:end] + data[start:end] + data[end:]


def drop_block(data: bytes, rng: random.Random) -> bytes:
    """A block of up to 4 KiB is missing."""
    start, end = _block(data, rng)
    return data[:start] + data[end:]


def zero_block(data: bytes, rng: random.Random) -> bytes:
    """A block of up to 4 KiB holds only zeros."""
    start, end = _block(data, rng)
    return data[:start] + bytes(end - start) + data[end:]


def noise_block(data: bytes, rng: random.Random) -> bytes:
    """A block of up to 4 KiB holds noise."""
    start, end = _block(data, rng)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def append_garbage(data: bytes, rng: random.Random) -> bytes:
    """Up to 4 KiB of noise after the end."""
    return data + rng.randbytes(2 ** rng.randrange(13))


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The beginning of one film, the end of another."""
    return data[: rng.randrange(1, len(data))] + other[rng.randrange(len(other)) :]


GENERAL_EDITS: dict[str, Edit] = {
    "bits in header": flip_in_header,
    "bits in data": flip_in_data,
    "cut anywhere": cut_anywhere,
    "unfilled tail": unfilled_tail,
    "repeated block": repeat_block,
    "dropped block": drop_block,
    "zeroed block": zero_block,
    "noise block": noise_block,
    "garbage appended": append_garbage,
}


def kinds() -> list[str]:
    """Every kind of mutation there is."""
    edits = chain(GENERAL_EDITS, *(edits for edits in _EDITS.values()))
    return sorted({"cut every 512 bytes", "splice", *edits})


def some_mutants(films: list[SourceFilm], seed: int, count: int) -> list[Mutant]:
    """The first mutants, as a list."""
    return list(islice(mutants(films, seed, count), count))
