"""Real films, made as many as a measurement wants: each of another content, all of them decode."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from bench.speed.facts import ROOT

SAMPLES = ROOT / "tests" / "films"
_MAGIC_AT, _MAGIC = 128, b"DICM"
_PER_FOLDER = 1000
_REPORT_BYTES = 400_000  # picture and page of one film, and its rows, at the most
_SPARE_BYTES = 2_000_000_000
_SMALL = 6  # films of the mix that 100,000 copies are made of


@dataclass(frozen=True)
class Mix:
    """Films that a measurement repeats in order: film n is source n modulo their number."""

    name: str
    sources: tuple[Path, ...]

    def mean_bytes(self) -> float:
        """Of one film."""
        return sum(path.stat().st_size for path in self.sources) / len(self.sources)


def data_folder() -> Path:
    """Where larger sets of films lie: beside the checkout, or where BENCH_DATA says."""
    return Path(os.environ.get("BENCH_DATA", ROOT.parent / "shared" / "data"))


def jpeg_mix() -> Mix:
    """Full-size originals of 1–3 megapixels, else the samples in tests/films.

    Their classes alternate, so that few films are already the whole mix.
    """
    folder = data_folder() / "kermany" / "originals"
    folder = folder if folder.is_dir() else SAMPLES
    classes = [sorted(each.glob("*.jpeg")) for each in sorted(folder.iterdir()) if each.is_dir()]
    rows = zip(*classes, strict=True)
    return Mix(folder.name, tuple(path for row in rows for path in row))


def small_mix() -> Mix:
    """The smallest of the same films by bytes, for sizes that would not fit on a disk else."""
    sources = sorted(jpeg_mix().sources, key=lambda path: path.stat().st_size)
    return Mix("smallest", tuple(sources[:_SMALL]))


def dicom_mix() -> Mix | None:
    """Chest films as DICOM of six makers, else those of PyPI's pydicom-data."""
    folder = data_folder() / "dicom" / "chest"
    if folder.is_dir():
        found = sorted(path for path in folder.glob("*.dcm") if _is_dicom(path.read_bytes()))
        return Mix("dicom", tuple(found))
    spec = find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        return None
    found = sorted((Path(spec.submodule_search_locations[0]) / "data").glob("RG1_*.dcm"))
    return Mix("pydicom-data", tuple(found)) if found else None


def distinct(film: bytes, number: int) -> bytes:
    """The same film with another content, which decodes to the same pixels.

    A number after the end marker of a JPEG, or in the preamble of a DICOM file, which is free for
    any use (PS3.10 7.1).
    """
    mark = number.to_bytes(8, "big")
    return mark + film[len(mark) :] if _is_dicom(film) else film + mark


def _is_dicom(film: bytes) -> bool:
    return film[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def grow(folder: Path, mix: Mix, count: int) -> Path:
    """Make `folder` an archive of the first `count` films of a mix; those that are there stay.

    Raises OSError when the disk has no room for the films and their reports.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = sum(len(files) for _, _, files in os.walk(folder))
    _require_room(folder, (count - made) * mix.mean_bytes() + count * _REPORT_BYTES)
    films = [path.read_bytes() for path in mix.sources]
    for number in range(made, count):
        target = archive_path(folder, mix.sources, number)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(distinct(films[number % len(films)], number))
    return folder


def archive_path(folder: Path, sources: Sequence[Path], number: int) -> Path:
    """Where film n lies: a thousand a folder, as archives have them."""
    suffix = sources[number % len(sources)].suffix
    return folder / f"{number // _PER_FOLDER:04}" / f"{number:08}{suffix}"


def drop(archive: Path, inbox: Path, count: int) -> None:
    """Copy films into an inbox."""
    for path in islice(sorted(path for path in archive.rglob("*") if path.is_file()), count):
        shutil.copyfile(path, inbox / path.name)


def _require_room(folder: Path, wanted: float) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted + _SPARE_BYTES:
        raise OSError(
            f"{folder} has {free / 1e9:.0f} GB free, this needs {(wanted + _SPARE_BYTES) / 1e9:.0f}"
        )
