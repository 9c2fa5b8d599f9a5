"""Attributes of a DICOM film that its answers repeat: patient, study, and what was looked at.

Read in the decoder child and handed over as text. Nothing here is kept in the database or logged.
"""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from worker.errors import CorruptFile, FilmError, NotAFilm
from worker.imaging.charset import is_told
from worker.imaging.dicom import read_dataset
from worker.imaging.limits import DecodeLimits
from worker.imaging.sniff import HEAD_BYTES, Kind, sniff

# Patient (PS3.3 C.7.1.1), General Study (C.7.2.1), Patient Study (C.7.2.2); then of series, image
# and acquisition what describes the film itself.
PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime"),
    *("PatientSex", "EthnicGroup", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID"),
    *("AccessionNumber", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight"),
)
KEYWORDS = (
    *PATIENT_AND_STUDY,
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns"),
    *("BodyPartExamined", "Laterality", "ImageLaterality", "PatientOrientation"),
    *("PixelSpacing", "ImagerPixelSpacing", "BurnedInAnnotation", "TimezoneOffsetFromUTC"),
)
LONGEST = 324  # characters: a PN of five components (PS3.5 6.2), the longest of these that is valid


@dataclass(frozen=True)
class Attributes:
    """What one file says, by keyword; several values are parted by a backslash (PS3.5 6.2).

    `sha256` is of the bytes that were read. `unusable` names attributes that have a value which
    cannot be repeated: too long, in unknown characters, with control characters.
    """

    sha256: str
    values: Mapping[str, str]
    unusable: frozenset[str]


def attributes_of(data: bytes, limits: DecodeLimits) -> Attributes:
    """Read the attributes of a DICOM file. Raises FilmError, and MemoryError."""
    if sniff(data[:HEAD_BYTES]) is not Kind.DICOM:
        raise NotAFilm("the content is not DICOM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote patient tags
            ds = read_dataset(data, limits)[0]
            return read_attributes(ds, hashlib.sha256(data).hexdigest())
    except (FilmError, MemoryError):
        raise
    except Exception as error:  # pydicom raises whatever it likes for broken content
        raise CorruptFile(f"the header cannot be read ({type(error).__name__})") from error


def read_attributes(ds: Dataset, sha256: str) -> Attributes:
    """Take the attributes out of a data set; what is absent or empty is left out. Never raises."""
    values: dict[str, str] = {}
    unusable = set()
    for keyword in KEYWORDS:
        value = _text(ds, keyword)
        if value is None or not is_repeatable(value) or not is_told(ds, value):
            unusable.add(keyword)
        elif value:
            values[keyword] = value
    return Attributes(sha256, values, frozenset(unusable))


def is_repeatable(value: str) -> bool:
    """Whether a text can be written again as it was read."""
    replaced = "\N{REPLACEMENT CHARACTER}" in value
    return len(value) <= LONGEST and value.isprintable() and not replaced


def _text(ds: Dataset, keyword: str) -> str | None:
    """A value as text, without padding; empty where there is none, `None` if it is unreadable."""
    try:
        value = ds.get(keyword)
        if value is None or isinstance(value, bytes):
            return None if value else ""
        several = isinstance(value, (list, tuple, MultiValue))
        parts = [str(each) for each in value] if several else [str(value)]
    except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError, OverflowError):
        return None
    return "\\".join(parts).strip(" \0")
