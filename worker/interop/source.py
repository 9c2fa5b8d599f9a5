"""The film that an answer refers to: its patient, its study and itself, as a valid data set.

Values that break their value representation (PS3.5 6.2) are left empty: an object that repeats them
would be refused. Those that decide whose answer it is are never left out: then there is no answer.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import partial

from pydicom.dataset import Dataset

from worker.imaging.attributes import KEYWORDS, PATIENT_AND_STUDY, Attributes
from worker.interop.errors import Impossible

_DECISIVE = (  # with another value in these an answer would go to another patient or another study
    *("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("SOPInstanceUID", "SOPClassUID"),
)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_TYPE_2 = (  # of the modules Patient (PS3.3 C.7.1.1) and General Study (C.7.2.1)
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
_NAMES = ("PatientName", "ReferringPhysicianName")
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?"


def source_dataset(found: Attributes) -> Dataset:
    """A data set of the film's attributes, in UTF-8, for objects of its study.

    Raises Impossible when the film cannot be referred to, or its patient not be named, without
    breaking DICOM's rules.
    """
    _require_identity(found)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _TYPE_2:
        setattr(ds, keyword, None)
    for keyword in KEYWORDS:
        value = found.values.get(keyword)
        if value is not None and is_valid(keyword, value):
            setattr(ds, keyword, _parsed(keyword, value))
    if ds.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in ds:
        del ds.PatientIdentityRemoved  # the method is required with it (PS3.3 C.7.1.1)
    return ds


def nameless(source: Dataset) -> Dataset:
    """The same without names of people: highdicom quotes those that it finds odd in warnings."""
    ds = Dataset()
    ds.update({element.tag: element for element in source if element.keyword not in _NAMES})
    ds.PatientName = ds.ReferringPhysicianName = None
    return ds


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Give an object the patient and the study of the film."""
    target.SpecificCharacterSet = source.SpecificCharacterSet
    for keyword in (*PATIENT_AND_STUDY, "TimezoneOffsetFromUTC"):
        if keyword in source:  # as an element of its own: highdicom shares those of its source
            element = source[keyword]
            target.add_new(element.tag, element.VR, element.value)


def is_valid(keyword: str, value: str) -> bool:
    """Whether an attribute may have this value, by its value representation or its own rule."""
    return _RULES[keyword](value)


def _parsed(keyword: str, value: str) -> str | int | list[str]:
    if keyword in _SEVERAL:
        return value.split("\\")
    return int(value) if keyword in ("Rows", "Columns") else value


def _require_identity(found: Attributes) -> None:
    for keyword in _DECISIVE:
        value = found.values.get(keyword)
        if keyword in found.unusable or (value is not None and not is_valid(keyword, value)):
            raise Impossible(f"the film's {keyword} breaks the rules of DICOM (PS3.5 6.2)")
        if value is None and keyword in _UIDS:
            raise Impossible(f"the film has no {keyword}")


def _matches(pattern: str, value: str) -> bool:
    return re.fullmatch(pattern, value, re.ASCII) is not None


def _text(longest: int, value: str) -> bool:
    """LO and SH: one value."""
    return len(value) <= longest and "\\" not in value


def _uid(value: str) -> bool:
    return len(value) <= 64 and _matches(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", value)


def _date(value: str) -> bool:
    if not _matches(r"\d{8}", value):
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _name(value: str) -> bool:
    """PN: up to three writings of up to five components, 64 characters each writing."""
    writings = value.split("=")
    fits = all(len(each) <= 64 and each.count("^") <= 4 for each in writings)
    return len(writings) <= 3 and fits and "\\" not in value


def _number(value: str) -> bool:
    return len(value) <= 16 and _matches(_NUMBER, value)


def _spacing(value: str) -> bool:
    """Two numbers, none of them 0 (PS3.3 10.7.1.3)."""
    parts = value.split("\\")
    return len(parts) == 2 and all(_number(part) and float(part) > 0 for part in parts)


_LO, _SH = partial(_text, 64), partial(_text, 16)
_CS = partial(_matches, r"[A-Z0-9_][A-Z0-9_ ]{0,15}")
_TM = partial(_matches, r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_YES_NO = partial(_matches, "YES|NO")
_COUNT = partial(_matches, r"[1-9]\d{0,4}")
_SEVERAL = ("PatientOrientation", "PixelSpacing", "ImagerPixelSpacing")
_RULES: dict[str, Callable[[str], bool]] = {
    "PatientName": _name,
    "PatientID": _LO,
    "IssuerOfPatientID": _LO,
    "PatientBirthDate": _date,
    "PatientBirthTime": _TM,
    "PatientSex": partial(_matches, "[MFO]"),
    "EthnicGroup": _SH,
    "PatientIdentityRemoved": _YES_NO,
    "DeidentificationMethod": _LO,
    "StudyInstanceUID": _uid,
    "StudyDate": _date,
    "StudyTime": _TM,
    "ReferringPhysicianName": _name,
    "StudyID": _SH,
    "AccessionNumber": _SH,
    "StudyDescription": _LO,
    "PatientAge": partial(_matches, r"\d{3}[DWMY]"),
    "PatientSize": _number,
    "PatientWeight": _number,
    "SOPClassUID": _uid,
    "SOPInstanceUID": _uid,
    "SeriesInstanceUID": _uid,
    "Modality": _CS,
    "Rows": _COUNT,
    "Columns": _COUNT,
    "BodyPartExamined": _CS,
    "Laterality": partial(_matches, "[RL]"),
    "ImageLaterality": partial(_matches, "[RLUB]"),
    "PatientOrientation": partial(_matches, r"[APRLHF]{1,3}\\[APRLHF]{1,3}"),
    "PixelSpacing": _spacing,
    "ImagerPixelSpacing": _spacing,
    "BurnedInAnnotation": _YES_NO,
    "TimezoneOffsetFromUTC": partial(_matches, r"[+-](0\d|1[0-4])[0-5]\d"),
}
