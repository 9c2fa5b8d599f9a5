"""Real films in every form that a site sends, to be cut, bent and broken.

Where a film ends is found out here by libraries (pydicom, zlib) and by the last marker of files of
ours that hold nothing after it: never by the code under test.
"""

import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

DX = "1.2.840.10008.5.1.4.1.1.1.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big": "1.2.840.10008.1.2.2",
    "deflated": DEFLATED,
    "rle": "1.2.840.10008.1.2.5",
    "jpeg": JPEG_BASELINE,
    "jpegls": "1.2.840.10008.1.2.4.80",
    "j2k": "1.2.840.10008.1.2.4.90",
}


@dataclass(frozen=True)
class SourceFilm:
    """A whole film. Its picture ends before byte `end`; less than that is a cut film.

    Bytes after `end` carry no picture (padding, trailing elements): a file that lacks only those
    is whole.
    """

    name: str
    extension: str
    data: bytes
    end: int
    full_size: bool = False

    def is_cut(self, data: bytes) -> bool:
        """Whether `data` is what a copy of this film that stopped too early leaves."""
        return len(data) < self.end and self.data.startswith(data)


def picture_end(data: bytes, extension: str) -> int:
    """The offset after the last byte that the picture needs."""
    if extension == ".jpg":
        return data.rindex(b"\xff\xd9") + 2
    if extension == ".png":
        return data.rindex(b"IEND") + 8
    ds = pydicom.dcmread(BytesIO(data), force=True)
    meta = ds.file_meta
    if meta.get("TransferSyntaxUID") == DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        stream.decompress(data[144 + meta.FileMetaInformationGroupLength :])
        return len(data) - len(stream.unused_data)
    pixels = ds.get_item("PixelData")
    delimiter = 8 if pixels.length == 0xFFFFFFFF else 0  # PS3.5 A.4: a sequence delimiter follows
    return int(pixels.value_tell + len(pixels.value) + delimiter)


def source_film(name: str, extension: str, data: bytes, *, full_size: bool = False) -> SourceFilm:
    """A film with its end looked up."""
    return SourceFilm(name, extension, data, picture_end(data, extension), full_size)


def source_films(repository: Path, shared_data: Path | None) -> list[SourceFilm]:
    """JPEG, PNG and DICOM films; with the shared data also those of real machines."""
    samples = sorted((repository / "tests" / "films").glob("*/*.jpeg"))
    films = [film for index, path in enumerate(samples) for film in _rasters(path, index)]
    for index, (form, syntax) in enumerate(SYNTAXES.items()):
        pixels = _scaled(samples[index], 224 + 16 * index)
        films.append(source_film(f"made-{form}", ".dcm", dicom_film(pixels, syntax)))
    for path in samples[:2] + samples[-1:]:
        films.append(source_film(path.stem, ".jpg", path.read_bytes(), full_size=True))
    for path in [*_pydicom_data(), *_shared_dicom(shared_data)]:
        data = path.read_bytes()
        films.append(source_film(path.stem, ".dcm", data, full_size=len(data) > 600_000))
    return films


def _pydicom_data() -> list[Path]:
    spec = find_spec("data_store")
    if spec is None or not spec.submodule_search_locations:
        return []
    folder = Path(spec.submodule_search_locations[0]) / "data"
    return sorted(folder.glob("RG1_*.dcm"))


def _shared_dicom(shared_data: Path | None) -> list[Path]:
    return sorted((shared_data / "dicom" / "chest").glob("*.dcm")) if shared_data else []


def _scaled(path: Path, longest_px: int) -> NDArray[np.uint8]:
    film = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    scale = longest_px / max(film.shape)
    small = cv2.resize(film, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _rasters(path: Path, index: int) -> list[SourceFilm]:
    """Some small films of one: the forms rotate, so that 16 films give every form several times."""
    pixels = _scaled(path, 256 + 16 * index)
    forms = (
        ("jpeg", ".jpg", _pillow(pixels, "JPEG", quality=85)),
        ("progressive", ".jpg", _pillow(pixels, "JPEG", quality=80, progressive=True)),
        ("restarts", ".jpg", _cv2(".jpg", pixels, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])),
        ("colour", ".jpg", _cv2(".jpg", np.dstack([pixels] * 3), [])),
        ("exif", ".jpg", _pillow(pixels, "JPEG", quality=85, exif=_exif())),
        ("png", ".png", _cv2(".png", pixels, [])),
        ("png16", ".png", _cv2(".png", pixels.astype(np.uint16) * 16, [])),
        ("palette", ".png", _pillow(pixels, "PNG", palette=True)),
    )
    chosen = (forms[index % 5], forms[5 + index % 3]) if index < 8 else (forms[index % 5],)
    return [source_film(f"{path.stem}-{form}", ext, data) for form, ext, data in chosen]


def _cv2(extension: str, pixels: NDArray[np.integer], options: list[int]) -> bytes:
    return bytes(cv2.imencode(extension, pixels, options)[1])


def _pillow(
    pixels: NDArray[np.uint8], form: str, *, palette: bool = False, **options: object
) -> bytes:
    image, file = Image.fromarray(pixels), BytesIO()
    (image.convert("P") if palette else image).save(file, form, **options)
    return file.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Screen"  # Orientation, Make
    return exif


def dicom_film(pixels: NDArray[np.uint8], syntax: str, **tags: object) -> bytes:
    """A small DX chest film in some transfer syntax; keywords set tags."""
    eight_bits = syntax == JPEG_BASELINE
    stored = pixels if eight_bits else pixels.astype(np.uint16) * 16
    ds = _dataset(stored, bits=8 if eight_bits else 12)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    if eight_bits:
        ds.PixelData = encapsulate([_pillow(pixels, "JPEG", quality=90)])
        ds["PixelData"].VR = "OB"
    elif UID(syntax).is_encapsulated:
        ds.file_meta.TransferSyntaxUID = UID(SYNTAXES["explicit"])
        ds.compress(UID(syntax), generate_instance_uid=False)
    elif syntax == SYNTAXES["big"]:
        ds.PixelData = stored.astype(">u2").tobytes()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    file = BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def _dataset(stored: NDArray[np.integer], bits: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DX
    uid = generate_uid(entropy_srcs=[str(stored.shape)])
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = uid
    ds.SpecificCharacterSet, ds.ImageType = "ISO_IR 100", ["ORIGINAL", "PRIMARY"]
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.PatientName, ds.PatientID, ds.PatientAge = "Doe^Jane", "4711", "004Y"
    ds.StudyInstanceUID = ds.SeriesInstanceUID = uid
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = stored.dtype.itemsize * 8
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, 0
    ds.WindowCenter, ds.WindowWidth = 2 ** (bits - 1), 2**bits
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
    return ds
