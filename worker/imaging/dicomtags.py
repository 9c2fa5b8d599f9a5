"""What the tags of a DICOM film say, and what they forbid.

Gates never raise: the film is decoded all the same, so that its page can show it, and is refused
with a reason. A tag that says nothing forbids nothing.
"""

import re
import unicodedata
from dataclasses import replace
from datetime import date

from pydicom.dataset import Dataset
from pydicom.uid import UID

from worker.imaging.charset import is_told
from worker.records import Identity, Patient, Reason, Refusal, Tags

# PS3.3 C.7.3.1.1.1. OT and SC pass: scanned and exported films carry them, the guard sees them too.
_RADIOGRAPHY = {"CR", "DX", "RG", "OT", "SC"}
RADIOGRAPH_CLASSES = (  # SOP classes (PS3.4 B.5)
    "1.2.840.10008.5.1.4.1.1.1",  # computed radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # digital X-ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # digital X-ray, for processing
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture, and its multi-frame kinds
    "1.2.840.10008.5.1.4.1.1.7.1",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
)
# What has no picture by its nature: beginnings of SOP class UIDs, the longest that fits counts.
_NO_PICTURE = {
    "1.2.840.10008.1.3.10": "a DICOMDIR: it only lists the files of a medium",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state: it only says how to show other pictures",
    "1.2.840.10008.5.1.4.1.1.88.": "a structured report",
    "1.2.840.10008.5.1.4.1.1.88.59": "a key object selection: it only points at other objects",
    "1.2.840.10008.5.1.4.1.1.104.": "an encapsulated document, a PDF or the like",
}
# Body parts in PS3.16 annex L and in other languages' consoles. Ribs are not among them: a rib film
# is exposed for bone and often shows one side only.
_CHEST = {"CHEST", "THORAX", "TORAX", "TORACE", "LUNG", "LUNGS", "POUMON", "PULMON"}
_BESIDE_CHEST = {"PA", "AP", "PORTABLE", "BEDSIDE", "FRONTAL", "ROUTINE", "XR", "XRAY", "X", "RAY"}
_UNSAID = {"", "UNKNOWN", "UNSPECIFIED", "NONE", "NA"}
_CHEST_CODES = {"51185008", "T-D3000", "39607008", "T-28000"}  # thorax, lung: SNOMED CT, SRT

# Laterals; obliques (LLO, RLO) and decubitus views (LLD, RLD) are no upright frontal views either.
_NOT_FRONTAL = {"LL", "RL", "LATERAL", "LAT", "LLAT", "RLAT", "LLO", "RLO", "LLD", "RLD"}
_LATERAL_CODES = {  # PS3.16 CID 4010 and its kin: lateral, right and left lateral
    "R-10228", "399067008", "R-10232", "399173006", "R-10236", "399198007", "R-102CD", "399352003",
}  # fmt: skip

_HUMAN_CODES = {"337915000", "L-85003"}  # homo sapiens: SNOMED CT, SRT
_ANIMAL_WORDS = re.compile(r"\b(CANINE|FELINE|EQUINE|BOVINE|DOG|VETERINARY|VETERINARIAN)\b", re.I)
_FREE_TEXT = (
    "AcquisitionDeviceProcessingDescription",
    "ProtocolName",
    "SeriesDescription",
    "StudyDescription",
    "InstitutionName",
)

_AGE = re.compile(r"0*(\d{1,3})([DWMY]?)$")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0, "": 1.0}
_OLDEST_YEARS = 130
_LONGEST = 64  # characters: the longest a UI or LO value may have (PS3.5 6.2)


def text(ds: Dataset, keyword: str) -> str:
    """A tag as one line of text, first value only, cut to 64 characters; empty if unreadable."""
    try:
        value = ds.get(keyword)
        if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
            value = value[0] if len(value) else None
        line = "" if value is None else str(value)
    except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError):
        return ""
    return "".join(ch for ch in line if ch.isprintable()).strip()[:_LONGEST]


def read_tags(ds: Dataset, transfer_syntax: str) -> Tags:
    """The tags that the program keeps of every film: nothing that says who the patient is."""
    keywords = {
        "modality": "Modality",
        "view_position": "ViewPosition",
        "body_part_examined": "BodyPartExamined",
        "photometric_interpretation": "PhotometricInterpretation",
        "manufacturer": "Manufacturer",
        "study_instance_uid": "StudyInstanceUID",
        "series_instance_uid": "SeriesInstanceUID",
        "sop_instance_uid": "SOPInstanceUID",
        "sop_class_uid": "SOPClassUID",
        "study_date": "StudyDate",
        "acquisition_date": "AcquisitionDate",
        "manufacturer_model_name": "ManufacturerModelName",
        "device_serial_number": "DeviceSerialNumber",
        "software_versions": "SoftwareVersions",
        "station_name": "StationName",
        "burned_in_annotation": "BurnedInAnnotation",
    }
    said = {name: text(ds, keyword) or None for name, keyword in keywords.items()}
    for name in ("study_date", "acquisition_date"):
        said[name] = _iso_date(said[name] or "")
    return Tags(patient_age_years=_age(ds), transfer_syntax_uid=transfer_syntax, **said)


def read_patient(ds: Dataset, identity: Identity) -> Patient:
    """Who the patient is, as far as the site wants to know: for a pseudonym only the ID.

    What stands in characters that nobody named is left out. An ID whose issuer is left out is no
    ID: it would be taken for that of another issuer's patient. Nor is one that is not one LO
    (PS3.5 6.2): cut short it may be somebody else's.
    """
    if identity == "off":
        return Patient()
    issuer = _told(ds, "IssuerOfPatientID")
    patient_id = _told(ds, "PatientID") if issuer is not None else None
    if patient_id and str(ds.get("PatientID")).strip(" \0") != patient_id:
        patient_id = None  # several values, control characters, or longer than 64
    known = Patient(patient_id or None, issuer or None)
    if identity == "pseudonym":
        return known
    name = person(_told(ds, "PatientName") or "") or None
    return replace(known, patient_name=name, accession_number=_told(ds, "AccessionNumber") or None)


def _told(ds: Dataset, keyword: str) -> str | None:
    """A tag as `text` gives it; `None` where its characters are not known."""
    try:
        whole = str(ds.get(keyword, ""))  # `text` drops C1 controls, which are letters elsewhere
    except (ValueError, TypeError, AttributeError, LookupError, NotImplementedError):
        return None
    return text(ds, keyword) if is_told(ds, whole) else None


def without_picture(ds: Dataset) -> str:
    """What an object without a picture is, in the words of a message."""
    uid = UID(text(ds, "SOPClassUID") or str(ds.file_meta.get("MediaStorageSOPClassUID", "")))
    kinds = [kind for kind in _NO_PICTURE if uid.startswith(kind)]
    if kinds:
        return _NO_PICTURE[max(kinds, key=len)]
    return f"a DICOM object without a picture ({uid.name[:_LONGEST]})"


def person(name: str) -> str:
    """A person's name as `Family, Given`, of its first writing that is not empty.

    Components are parted by ^, up to three writings by = (PS3.5 6.2.1).
    """
    writings = ([part.strip() for part in writing.split("^")[:2]] for writing in name.split("="))
    return next((", ".join(filter(None, parts)) for parts in writings if any(parts)), "")


def age_years(age: str) -> float | None:
    """PatientAge in years: nnnD, nnnW, nnnM, nnnY (PS3.5 6.2, VR AS), or a bare number of years.

    Anything else, and an age over 130 years, is `None`.
    """
    match = _AGE.fullmatch(age.strip().upper())
    if not match:
        return None
    years = int(match[1]) / _PER_YEAR[match[2]]
    return years if years <= _OLDEST_YEARS else None


def _age(ds: Dataset) -> float | None:
    """PatientAge, else the time from PatientBirthDate to StudyDate."""
    years = age_years(text(ds, "PatientAge"))
    if years is not None:
        return years
    born, seen = (_date(text(ds, key)) for key in ("PatientBirthDate", "StudyDate"))
    if born is None or seen is None:
        return None
    years = (seen - born).days / 365.25
    return round(years, 2) if 0 <= years <= _OLDEST_YEARS else None


def _date(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if re.fullmatch(r"\d{8}", value) else None
    except ValueError:
        return None


def _iso_date(value: str) -> str | None:
    """A DA as YYYY-MM-DD, from YYYYMMDD or the retired YYYY.MM.DD (PS3.5 6.2)."""
    day = _date(value.replace(".", ""))
    return day.isoformat() if day else None


def gate(ds: Dataset) -> Refusal | None:
    """The first reason, in a fixed order, why the tags of this film forbid an answer."""
    for check in (_veterinary, _modality, _body_part, _view, _frames):
        refusal = check(ds)
        if refusal is not None:
            return refusal
    return None


def _veterinary(ds: Dataset) -> Refusal | None:
    """Species and breed (PS3.3 C.7.1.1), an owner as responsible person, or an animal in free text.

    A responsible person alone says nothing: children have parents and guardians.
    """
    species = text(ds, "PatientSpeciesDescription").upper()
    code = _code(ds, "PatientSpeciesCodeSequence")
    animal = (
        species not in _UNSAID | {"HUMAN", "HOMO SAPIENS", "HOMO SAPIEN"}
        or (code != "" and code not in _HUMAN_CODES)
        or text(ds, "PatientBreedDescription").upper() not in _UNSAID
        or _code(ds, "PatientBreedCodeSequence") != ""
        or text(ds, "ResponsiblePersonRole").upper() == "OWNER"
        or any(_ANIMAL_WORDS.search(text(ds, key)) for key in _FREE_TEXT)
    )
    if not animal:
        return None
    return Refusal(Reason.VETERINARY, "the tags say that the patient is an animal")


def _modality(ds: Dataset) -> Refusal | None:
    modality = text(ds, "Modality").upper()
    sop_class = text(ds, "SOPClassUID")
    if modality in _UNSAID and sop_class and sop_class not in RADIOGRAPH_CLASSES:
        return Refusal(Reason.WRONG_MODALITY, "no modality, and the object is no radiograph")
    if modality not in _UNSAID | _RADIOGRAPHY:
        return Refusal(
            Reason.WRONG_MODALITY, f"modality {modality}: only radiographs (CR, DX, RG) are read"
        )
    uid = UID(sop_class)
    if uid.type == "SOP Class" and uid not in RADIOGRAPH_CLASSES:  # private ones may be anything
        return Refusal(
            Reason.WRONG_MODALITY,
            f"modality {modality}, but the object is {uid.name}, no radiograph",
        )
    return None


def _body_part(ds: Dataset) -> Refusal | None:
    """BodyPartExamined, and where it is silent the code of AnatomicRegionSequence."""
    part = text(ds, "BodyPartExamined")
    code = _code(ds, "AnatomicRegionSequence")
    plain = unicodedata.normalize("NFKD", part.upper()).encode("ascii", "ignore").decode()
    words = set(re.findall(r"[A-Z]+", plain))
    if part and not words <= _UNSAID and not part.isdigit():
        fits = bool(words & _CHEST) and words <= _CHEST | _BESIDE_CHEST
    else:
        fits = code in _CHEST_CODES | {""}
    if fits:
        return None
    return Refusal(Reason.WRONG_BODY_PART, f"body part {part or code}: only chest films are read")


def _view(ds: Dataset) -> Refusal | None:
    """ViewPosition, ViewCodeSequence, or an image plane that holds the front-to-back axis.

    PatientOrientation names where rows and columns point (PS3.3 C.7.6.1.1.1): in a frontal film
    neither runs anterior or posterior.
    """
    lateral = text(ds, "ViewPosition").upper() in _NOT_FRONTAL
    lateral = lateral or _code(ds, "ViewCodeSequence") in _LATERAL_CODES
    orientation = ds.get("PatientOrientation")
    if not isinstance(orientation, str) and orientation and len(orientation) == 2:
        lateral = lateral or any(str(axis)[:1].upper() in ("A", "P") for axis in orientation)
    if not lateral:
        return None
    return Refusal(Reason.LATERAL_VIEW, "the tags say a view that is not frontal (PA or AP)")


def _frames(ds: Dataset) -> Refusal | None:
    frames = frame_count(ds)
    if frames <= 1:
        return None
    return Refusal(Reason.MULTI_FRAME, f"{frames} frames: only single films are read")


def frame_count(ds: Dataset) -> int:
    """NumberOfFrames; 1 where it is absent or empty. Raises ValueError when it is no number."""
    return max(1, int(text(ds, "NumberOfFrames") or 1))


def _code(ds: Dataset, keyword: str) -> str:
    """CodeValue of the first item of a code sequence; empty where there is none."""
    sequence = ds.get(keyword)
    items = list(sequence) if sequence else []
    return text(items[0], "CodeValue") if items and isinstance(items[0], Dataset) else ""
