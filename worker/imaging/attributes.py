"""Attributes of a DICOM film that its answers repeat: patient, study, and what was looked at.

Read in the decoder child (`imaging.header`) and handed over as text. Nothing here is kept in the
database or logged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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


def is_repeatable(value: str) -> bool:
    """Whether a text can be written again as it was read."""
    replaced = "\N{REPLACEMENT CHARACTER}" in value
    return len(value) <= LONGEST and value.isprintable() and not replaced
