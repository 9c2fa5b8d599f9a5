"""Decode one film, whatever it is: the entry point for training, tests and the decoder child."""

import warnings
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.errors import (
    CorruptFile,
    FilmError,
    NotAFilm,
    TooLarge,
    TruncatedFile,
    UnsupportedTransferSyntax,
)
from worker.imaging.dicom import decode_dicom
from worker.imaging.limits import DecodeLimits
from worker.imaging.polarity import looks_inverted
from worker.imaging.raster import decode_raster
from worker.imaging.sniff import HEAD_BYTES, Kind, is_whole, sniff
from worker.records import Film, Reason, Refusal

SMALLEST_SIDE_PX = 100  # less than half of the model's input: nothing of a lung's texture is left
LEAST_CONTRAST = 0.02  # of the grey range, between percentiles 0.5 and 99.5


def decode(data: bytes, limits: DecodeLimits | None = None) -> Film:
    """Decode one film to MONOCHROME2, with the refusal that its tags or its pixels call for.

    Pixels are float32 (rows, columns) in [0, 1], 1 brightest. Raises FilmError and nothing else,
    for any bytes whatever; a hostile film can still crash the process: see `sandbox`.
    """
    limits = limits or DecodeLimits()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote patient tags
            film = _dispatch(data, limits)
            return replace(film, refusal=film.refusal or _pixel_refusal(film.pixels))
    except FilmError:
        raise
    except MemoryError as error:
        raise TooLarge("the film needs more memory than [decode] memory_mb allows") from error
    except ImportError as error:  # in a confined child nothing can be loaded any more
        raise UnsupportedTransferSyntax(
            "a library that this film needs cannot be loaded: try 'screen doctor'"
        ) from error
    except Exception as error:  # decoders raise whatever they like; this is the one broad catch
        if isinstance(error, cv2.error) and error.code == cv2.Error.STS_NO_MEM:
            raise TooLarge("the film needs more memory than [decode] memory_mb allows") from error
        if not is_whole(data):
            raise TruncatedFile("the film ends before its picture does: copy it again") from error
        raise CorruptFile(f"the film cannot be decoded ({type(error).__name__})") from error


def _dispatch(data: bytes, limits: DecodeLimits) -> Film:
    if not data:
        raise TruncatedFile("the file is empty: copy it again")
    if len(data) > limits.max_file_bytes:
        raise TooLarge(f"the file is larger than {limits.max_file_mb} MiB ([decode] max_file_mb)")
    kind = sniff(data[:HEAD_BYTES])
    if kind is Kind.DICOM:
        return decode_dicom(data, limits)
    if not is_whole(data):
        what = "file" if kind is Kind.OTHER else kind
        raise TruncatedFile(f"the {what} ends before its picture does: copy it again")
    if kind is Kind.OTHER:
        raise NotAFilm("the content is neither JPEG, PNG nor DICOM")
    return decode_raster(data, limits)


def _pixel_refusal(pixels: NDArray[np.float32]) -> Refusal | None:
    """What the pixels alone forbid: too small, without contrast, or shown as a negative."""
    rows, columns = pixels.shape
    if min(rows, columns) < SMALLEST_SIDE_PX:
        return Refusal(
            Reason.TOO_SMALL,
            f"{columns} × {rows} pixels: the short side must have {SMALLEST_SIDE_PX} at least",
        )
    step = max(1, min(rows, columns) // 512)
    low, high = np.percentile(pixels[::step, ::step], (0.5, 99.5))
    if high - low < LEAST_CONTRAST:
        return Refusal(Reason.BLANK, "the picture has no contrast")
    if looks_inverted(pixels):
        return Refusal(
            Reason.POLARITY_UNSURE,
            "the film looks like a negative: lungs bright, spine dark. Its polarity tag, if it has "
            "one, says otherwise; correct it at the source and send the film again",
        )
    return None
