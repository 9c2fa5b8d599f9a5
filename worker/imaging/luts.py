"""Look-up tables in DICOM films: modality, VOI and presentation LUT.

Read by our own hands, because pydicom takes every 8-bit table for one with two entries in a word,
and knows no modality LUT of 10 or 12 bits; files hold all of these.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from worker.errors import CorruptFile

Numbers = NDArray[np.generic]
Pixels = NDArray[np.float32]

_MOST_ENTRIES = 65_536  # 0 in a descriptor means as many (PS3.3 C.11.1.1)


@dataclass(frozen=True)
class Lut:
    """A table (entries,), the input value of its first entry, and the highest value it may give."""

    table: NDArray[np.uint16] | NDArray[np.uint8]
    first: int
    nominal: int

    def look_up(self, values: Numbers) -> Pixels:
        """The entries for these values; beyond its ends a table goes on with its last ones."""
        first = self.first
        if first >= _MOST_ENTRIES // 2 and values.min() < 0:
            first -= _MOST_ENTRIES  # written as unsigned, meant as signed
        places = np.clip(np.rint(values.astype(np.float64)) - first, 0, self.table.size - 1)
        return np.asarray(self.table[places.astype(np.intp)], dtype=np.float32)

    def shown(self, values: Numbers) -> Pixels:
        """`look_up`, divided by the nominal range: float32 in [0, 1]."""
        return self.look_up(values) / np.float32(max(self.nominal, int(self.table.max()), 1))


def modality_lut(ds: Dataset) -> Lut | None:
    """The modality LUT (PS3.3 C.11.1); `None` where there is none.

    Raises CorruptFile for one without entries: without it the stored values mean nothing.
    """
    lut = _first(ds, "ModalityLUTSequence")
    if lut is None and ds.get("ModalityLUTSequence"):
        raise CorruptFile("the modality LUT has no entries")
    return lut


def voi_lut(ds: Dataset) -> Lut | None:
    """The first VOI LUT (PS3.3 C.11.2.1.1); `None` where there is none to use."""
    return _first(ds, "VOILUTSequence")


def presentation_lut(ds: Dataset) -> Lut | None:
    """The presentation LUT (PS3.3 C.11.4), which maps the whole grey range, whatever its size."""
    return _first(ds, "PresentationLUTSequence")


def _first(ds: Dataset, keyword: str) -> Lut | None:
    sequence = ds.get(keyword)
    if not sequence or not sequence[0].get("LUTData") or not sequence[0].get("LUTDescriptor"):
        return None
    item = sequence[0]
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count & 0xFFFF or _MOST_ENTRIES  # the count is unsigned, whatever its VR says
    order = "<" if UID(ds.file_meta.TransferSyntaxUID).is_little_endian else ">"
    data = item.LUTData
    table = (
        np.frombuffer(data[: len(data) & ~1], f"{order}u2").astype(np.uint16)
        if isinstance(data, bytes)
        else np.atleast_1d(np.asarray(data)).astype(np.uint16)
    )
    if bits == 8 and table.size * 2 in (count, count + 1):  # two entries in a word
        table = table.astype("<u2").view(np.uint8)
    table = table[:count]
    return Lut(table, first, 2**bits - 1 if 8 <= bits <= 16 else 0) if table.size else None
