"""Synthetic films: no test data is needed for what they show."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.sandbox import DecoderPool

WAIT_S = 60
DX = "1.2.840.10008.5.1.4.1.1.1.1"


def chest_like(rows: int = 256, columns: int = 256) -> NDArray[np.float32]:
    """A crude frontal chest: air beside the body, dark lungs, bright middle and abdomen."""
    y, x = np.mgrid[0 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    film = np.full((rows, columns), 0.55)
    film[np.abs(x) > 0.9] = 0.05
    film[(y < 0.15) & (np.abs(x) > 0.3)] = 0.05
    for side in (-0.45, 0.45):
        film[((x - side) / 0.25) ** 2 + ((y - 0.45) / 0.3) ** 2 < 1] = 0.2
    film += 0.3 * np.exp(-((x / 0.15) ** 2))
    film[y > 0.75] += 0.1 * (np.abs(x[y > 0.75]) < 0.85)
    film += 0.02 * np.sin(40 * x + 31 * y)
    return np.clip(film, 0, 1).astype(np.float32)


def make_dataset(stored: NDArray[np.integer] | None = None, **tags: object) -> Dataset:
    """A digital chest film as DICOM; keywords set tags, `None` removes them."""
    if stored is None:
        stored = (chest_like() * 4095).astype(np.uint16)
    bits = stored.dtype.itemsize * 8
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = DX
    ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.SOPClassUID, ds.SOPInstanceUID = DX, ds.file_meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.Rows, ds.Columns = stored.shape[:2] if stored.ndim < 4 else stored.shape[1:3]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, min(bits, 12), min(bits, 12) - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.PixelData = stored.tobytes()
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def to_bytes(ds: Dataset) -> bytes:
    """The data set as a DICOM file."""
    file = BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def encode(extension: str, pixels: NDArray[np.integer]) -> bytes:
    """Pixels (rows, columns[, BGR[A]]) as the file that the extension names."""
    return cv2.imencode(extension, pixels)[1].tobytes()


@pytest.fixture(scope="session")
def dicom() -> Callable[..., bytes]:
    """A function that makes a DICOM chest film; see `make_dataset`."""
    return lambda stored=None, **tags: to_bytes(make_dataset(stored, **tags))


@pytest.fixture(scope="session")
def chest() -> NDArray[np.uint8]:
    return (chest_like() * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def jpeg(chest: NDArray[np.uint8]) -> bytes:
    return encode(".jpg", chest)


@pytest.fixture(scope="session")
def png(chest: NDArray[np.uint8]) -> bytes:
    return encode(".png", chest)


@pytest.fixture(scope="session")
def settings() -> PrepareSettings:
    return PrepareSettings(224, 0.5, 99.5, 512, 85)


@pytest.fixture(scope="session")
def limits() -> DecodeLimits:
    return DecodeLimits(memory_mb=1024, timeout_s=20, max_file_mb=64, max_megapixels=50)


@pytest.fixture
def film(tmp_path: Path, jpeg: bytes) -> Path:
    """A film as a file."""
    path = tmp_path / "film.jpg"
    path.write_bytes(jpeg)
    return path


def error_of(pool: DecoderPool, path: Path) -> BaseException | None:
    """What comes of a film in a pool, if it is no picture."""
    return pool.submit(path).exception(WAIT_S)
