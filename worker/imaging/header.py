"""Read the header of a DICOM film for its answers: in the decoder child only, as all parsing is."""

import hashlib
import warnings

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from worker.errors import CorruptFile, FilmError, NotAFilm
from worker.imaging.attributes import KEYWORDS, Attributes, is_repeatable
from worker.imaging.charset import is_told
from worker.imaging.dicom import read_dataset
from worker.imaging.limits import DecodeLimits
from worker.imaging.sniff import HEAD_BYTES, Kind, sniff


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
