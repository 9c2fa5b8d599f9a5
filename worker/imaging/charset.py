"""Whether text of a DICOM film is what its writer meant."""

from pydicom.charset import convert_encodings, default_encoding, python_encoding
from pydicom.dataset import Dataset

_ENCODINGS = set(python_encoding.values()) - {default_encoding}


def is_told(ds: Dataset, value: str) -> bool:
    """Whether a decoded value can be trusted: the film says in which characters it is written.

    Without SpecificCharacterSet only ISO_IR 6, that is ASCII, is allowed (PS3.3 C.12.1.1.2). For an
    absent or unknown set pydicom takes other bytes as Latin-1: names and IDs that nobody has.
    """
    return value.isascii() or ("\N{REPLACEMENT CHARACTER}" not in value and _has_known_set(ds))


def _has_known_set(ds: Dataset) -> bool:
    """Whether a character set of the standard is named, beyond ISO_IR 6, not by Python's."""
    try:
        encodings = convert_encodings(ds.get("SpecificCharacterSet"))
    except (ValueError, TypeError, AttributeError, LookupError):
        return False
    return any(encoding in _ENCODINGS for encoding in encodings)
