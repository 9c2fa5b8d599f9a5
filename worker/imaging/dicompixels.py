"""From stored values to what a viewer shows, in [0, 1].

The order is that of PS3.4 N.2: modality LUT, VOI LUT or window, presentation. Padding is masked on
stored values (PS3.3 C.7.5.1.1.2), and the one inversion comes last. All of it depends on the stored
value alone, so it is worked out once for each value that occurs and looked up for the pixels.
"""

from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from worker.errors import CorruptFile
from worker.imaging.dicomtags import text
from worker.imaging.luts import modality_lut, presentation_lut, voi_lut
from worker.imaging.syntaxes import (
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_LS_NEAR,
    LOSSY,
)

Pixels = NDArray[np.float32]
Stored = NDArray[np.integer]
Counts = NDArray[np.integer]
Mask = NDArray[np.bool_]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as PS3.3 C.7.6.3.1.2
_PERCENTILES = (0.5, 99.5)
_MOST_ENTRIES = 65_536  # of a palette (PS3.3 C.7.6.3.1.5)

_BY_GDCM = (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1)

# Of pydicom's plugins for grey films those that take least CPU time, tried first: all give the
# same pixels. On JPEG 2000, GDCM is done sooner where cores are idle, for a fifth more CPU time.
_CHEAPEST = {
    JPEG_BASELINE: "pillow",
    JPEG_LS: "pyjpegls",
    JPEG_LS_NEAR: "pyjpegls",
    JPEG_2000_LOSSLESS: "pylibjpeg",
    JPEG_2000: "pylibjpeg",
}


def render(ds: Dataset, cell_bits: int) -> tuple[Pixels, list[str]]:
    """Decode the first frame of a film and show it as MONOCHROME2.

    `cell_bits` are the bits in which each stored value comes: BitsAllocated, or the precision of
    the compressed picture. Gives float32 (rows, columns) in [0, 1], 1 brightest, and notes on what
    had to be assumed.
    Raises CorruptFile for pixels that contradict their tags; decoders raise what they like.
    """
    stored = stored_values(ds, cell_bits)
    photometric = text(ds, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        _check_segments(ds)
        stored = apply_color_lut(_used_bits(stored, ds, cell_bits), ds)
    if stored.ndim == 3:
        return _luminance(stored, ds), ["colour picture: its luminance is taken"]
    if not photometric.startswith("MONOCHROME"):
        raise CorruptFile(f"PhotometricInterpretation {photometric!r} with one sample per pixel")
    return _grey(stored, ds, cell_bits)


def stored_values(ds: Dataset, cell_bits: int) -> Stored:
    """The first frame as stored; what the cheapest decoder cannot read, the others try.

    Grey films come with their unused bits: pydicom drops them as if HighBit were BitsStored - 1,
    and so does GDCM with a lossless JPEG of more bits, unless it is told that all are stored.
    """
    if ds.SamplesPerPixel != 1:
        return pixel_array(ds, index=0)
    wanted: dict[str, Any] = {"correct_unused_bits": False}
    if ds.file_meta.TransferSyntaxUID in _BY_GDCM and cell_bits > ds.BitsStored:
        wanted["bits_stored"] = cell_bits
    cheapest = _CHEAPEST.get(ds.file_meta.TransferSyntaxUID)
    if cheapest:
        with suppress(RuntimeError, ValueError):
            return pixel_array(ds, index=0, decoding_plugin=cheapest, **wanted)
    return pixel_array(ds, index=0, **wanted)


def _check_segments(ds: Dataset) -> None:
    """Raise CorruptFile for a palette in segments (PS3.3 C.7.9.2) that would unfold without bound.

    Indirect segments repeat others, and a few bytes of them fill any memory: no film has been seen
    that uses them.
    """
    word = "<u2" if UID(ds.file_meta.TransferSyntaxUID).is_little_endian else ">u2"
    for colour in ("Red", "Green", "Blue"):
        data = ds.get(f"Segmented{colour}PaletteColorLookupTableData")
        if not data:
            continue
        bits = int(ds[f"{colour}PaletteColorLookupTableDescriptor"].value[2])
        numbers = np.frombuffer(data, np.uint8 if bits == 8 else word)
        entries = at = 0
        while at + 1 < min(numbers.size, 3 * _MOST_ENTRIES):
            kind, length = int(numbers[at]), int(numbers[at + 1])
            entries += length
            at += 2 + (length if kind == 0 else 1)  # 0: the entries, 1: the end of a line to it
            if kind > 1 or entries > _MOST_ENTRIES:
                raise CorruptFile("a palette in segments that are indirect or too many")
        if at < numbers.size - 1:
            raise CorruptFile("a palette in segments that are indirect or too many")


def _luminance(stored: Stored, ds: Dataset) -> Pixels:
    """(rows, columns, samples) → (rows, columns), divided by the nominal range."""
    most = float(np.iinfo(stored.dtype).max)
    bits = ds.get("BitsStored")
    if text(ds, "PhotometricInterpretation") != "PALETTE COLOR" and bits:
        most = float(2 ** int(bits) - 1)
    return np.clip(stored[..., :3] @ (_LUMA / np.float32(most)), 0, 1).astype(np.float32)


def _used_bits(stored: Stored, ds: Dataset, cell_bits: int) -> Stored:
    """Drop what lies beside the stored bits: retired overlays are kept there (PS3.5 8.1.1).

    A picture compressed with no more than the stored bits holds nothing else, wherever HighBit is.
    A lossless JPEG whose values need more bits than its header says (DCMTK writes such) is decoded
    differently by each decoder: where HighBit says that these bits count, it is refused. Values of
    a lossy picture can overshoot their range: they are clipped to it.
    """
    bits, high = int(ds.BitsStored), int(ds.get("HighBit", ds.BitsStored - 1))
    width = stored.dtype.itemsize * 8
    if bits >= width:
        return stored
    if ds.file_meta.TransferSyntaxUID in LOSSY and cell_bits > bits:
        low = -(2 ** (bits - 1)) if stored.dtype.kind == "i" else 0
        return np.clip(stored, low, low + 2**bits - 1)
    raw = stored.view(stored.dtype.str.replace("i", "u"))
    if cell_bits <= bits and high != bits - 1 and int(raw.max()) >> bits > 0:
        raise CorruptFile("the picture needs more bits than its own header says")
    shift = high + 1 - bits if cell_bits > bits else 0
    if not 0 <= shift <= width - bits:
        raise CorruptFile(f"HighBit {high} does not fit BitsStored {bits}")
    left = np.left_shift(stored, width - bits - shift)
    return np.right_shift(left, width - bits)  # arithmetic for signed values: keeps the sign


def _grey(stored: Stored, ds: Dataset, cell_bits: int) -> tuple[Pixels, list[str]]:
    """(rows, columns) as stored → (rows, columns) as shown."""
    if stored.dtype.itemsize > 2:  # PS3.3 C.8.11.3: a radiograph has 16 bits at most
        present, places, counts = np.unique(stored, return_inverse=True, return_counts=True)
        shown, notes = _shown(_used_bits(present, ds, cell_bits), counts, ds)
        return shown[places].reshape(stored.shape), notes
    numbers = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    numbers = numbers.view(np.uint8 if numbers.itemsize == 1 else np.uint16)
    most = 2 ** (8 * numbers.itemsize)
    histogram = cv2.calcHist([numbers], [0], None, [most], [0, most]).ravel()
    present = np.flatnonzero(histogram)
    values = present.astype(numbers.dtype).view(stored.dtype.newbyteorder("="))
    shown, notes = _shown(
        _used_bits(values, ds, cell_bits), histogram[present].astype(np.int64), ds
    )
    table = np.zeros(most, np.float32)
    table[present] = shown
    return np.asarray(cv2.LUT(numbers, table), dtype=np.float32), notes


def _shown(stored: Stored, counts: Counts, ds: Dataset) -> tuple[Pixels, list[str]]:
    """What the stored values that occur, (values,), are shown as: float32 in [0, 1], 1 brightest.

    `counts` (values,) says how many pixels have each.
    """
    notes: list[str] = []
    padding = _padding(stored, ds)
    if padding is not None and padding.all():
        notes.append("PixelPaddingValue covers the whole film: ignored")
        padding = None
    lut = modality_lut(ds)
    values = lut.look_up(stored) if lut else _rescaled(stored, ds)
    if not np.isfinite(values).all():
        raise CorruptFile("the modality LUT gives values that are no numbers")
    shown = _voi(values, ds)
    if shown is None or (np.ptp(shown) == 0 and np.ptp(values) > 0):
        shown = _percentiles(values, counts, padding)
        notes.append("no usable VOI LUT or window: shown between percentiles 0.5 and 99.5")
    shown, assumed = _presented(shown, ds)
    if padding is not None:
        shown[padding] = 0
    return shown.astype(np.float32, copy=False), notes + assumed


def _rescaled(stored: Stored, ds: Dataset) -> Pixels:
    """Rescale slope and intercept (PS3.3 C.11.1.1.2), where a film has both."""
    slope, intercept = text(ds, "RescaleSlope"), text(ds, "RescaleIntercept")
    if not (slope and intercept):
        return stored.astype(np.float32)
    return (stored.astype(np.float64) * float(slope) + float(intercept)).astype(np.float32)


def _presented(shown: Pixels, ds: Dataset) -> tuple[Pixels, list[str]]:
    """The last step: a presentation LUT, else the one inversion that a film may need.

    What a presentation LUT gives are P-values, dark to bright (PS3.3 C.11.4): none is inverted.
    """
    photometric, shape = text(ds, "PhotometricInterpretation"), text(ds, "PresentationLUTShape")
    lut = presentation_lut(ds)
    if lut is not None:
        notes = ["a presentation LUT decides what is bright"] if photometric[-1:] == "1" else []
        return lut.shown(shown * (lut.table.size - 1)), notes
    if photometric == "MONOCHROME1" or shape == "INVERSE":
        shown = 1 - shown  # low values are bright (PS3.3 C.7.6.3.1.2, C.11.6.1.2)
    if photometric == "MONOCHROME1" and shape == "IDENTITY":
        return shown, ["MONOCHROME1 with PresentationLUTShape IDENTITY: taken as MONOCHROME1"]
    return shown, []


def _padding(stored: Stored, ds: Dataset) -> Mask | None:
    """Where PixelPaddingValue, or its range up to PixelPaddingRangeLimit, lies."""
    first = _padding_value(ds, "PixelPaddingValue", stored.dtype)
    if first is None:
        return None
    last = _padding_value(ds, "PixelPaddingRangeLimit", stored.dtype)
    low, high = sorted((first, first if last is None else last))
    return np.asarray((stored >= low) & (stored <= high))


def _padding_value(ds: Dataset, keyword: str, dtype: np.dtype[np.integer]) -> int | None:
    try:
        value = int(text(ds, keyword))
    except ValueError:
        return None
    if dtype.kind == "i" and value > np.iinfo(dtype).max:
        value -= 2 ** (dtype.itemsize * 8)  # written as unsigned, meant as signed
    return value


def _voi(values: Pixels, ds: Dataset) -> Pixels | None:
    """The first VOI LUT, else the first window; `None` when there is no usable one."""
    lut = voi_lut(ds)
    return _window(values, ds) if lut is None else lut.shown(values)


def _window(values: Pixels, ds: Dataset) -> Pixels | None:
    """Window centre and width to [0, 1], as PS3.3 C.11.2.1.2 and C.11.2.1.3 define it."""
    try:
        centre, width = (float(text(ds, key)) for key in ("WindowCenter", "WindowWidth"))
    except ValueError:
        return None
    function = text(ds, "VOILUTFunction") or "LINEAR"  # an empty one means LINEAR
    if not np.isfinite([centre, width]).all() or width <= 0:
        return None
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - centre) / width, -60, 60)
        return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float32)
    if function != "LINEAR_EXACT":  # LINEAR: half a grey level of shift, a width of 1 at least
        if width < 1:
            return None
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return np.asarray(values > centre, dtype=np.float32)
    return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1), dtype=np.float32)


def _percentiles(values: Pixels, counts: Counts, padding: Mask | None) -> Pixels:
    seen = np.ones_like(values, np.bool_) if padding is None else ~padding
    order = np.argsort(values[seen])
    ordered, until = values[seen][order], np.cumsum(counts[seen][order])
    low, high = (_percentile(ordered, until, percent) for percent in _PERCENTILES)
    if high - low <= 0:
        low, high = float(ordered[0]), float(ordered[-1])
    if high - low <= 0:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), dtype=np.float32)


def _percentile(ordered: Pixels, until: Counts, percent: float) -> float:
    """As `np.percentile` of all pixels: `until` says how many have this ordered value or less."""
    place = (int(until[-1]) - 1) * percent / 100
    below = int(place)
    near = ordered[np.searchsorted(until, (below, min(below + 1, until[-1] - 1)), side="right")]
    return float(near[0]) + (float(near[1]) - float(near[0])) * (place - below)
