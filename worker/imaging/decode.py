"""Decode one film, whatever it is: the entry point for training, tests and the decoder child."""

import warnings
from dataclasses import replace

import cv2
import numpy as np

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
from worker.imaging.prepare import halve
from worker.imaging.raster import decode_raster
from worker.imaging.sniff import HEAD_BYTES, Kind, is_whole, sniff
from worker.records import Film, Identity, Reason, Refusal

SMALLEST_SIDE_PX = 100  # less than half of the model's input: nothing of a lung's texture is left
LEAST_CONTRAST = 0.02  # of the grey range, between percentiles 0.5 and 99.5
_GLANCE_PX = 128  # a film is halved until its short side has less: enough for contrast and polarity


def decode(
    data: bytes,
    limits: DecodeLimits | None = None,
    picture_px: int = 0,
    *,
    identity: Identity = "off",
) -> Film:
    """Decode one film to MONOCHROME2, with the refusal that its tags or its pixels call for.

    Pixels are as `Film` has them; a large JPEG comes at half scale where that leaves `picture_px`
    on its longest side. `identity` says what is asked of the patient.
    Raises FilmError and nothing else, for any bytes whatever; a hostile film
    can still crash the process: see `sandbox`.
    """
    limits = limits or DecodeLimits()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote patient tags
            film = _dispatch(data, limits, picture_px, identity)
            return replace(film, refusal=film.refusal or _pixel_refusal(film))
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


def _dispatch(data: bytes, limits: DecodeLimits, picture_px: int, identity: Identity) -> Film:
    if not data:
        raise TruncatedFile("the file is empty: copy it again")
    if len(data) > limits.max_file_bytes:
        raise TooLarge(f"the file is larger than {limits.max_file_mb} MiB ([decode] max_file_mb)")
    kind = sniff(data[:HEAD_BYTES])
    if kind is Kind.DICOM:
        return decode_dicom(data, limits, identity)
    if kind is not Kind.OTHER:
        return decode_raster(data, kind, limits, picture_px)
    if not is_whole(data):
        raise TruncatedFile("the file ends before its picture does: copy it again")
    raise NotAFilm("the content is neither JPEG, PNG nor DICOM")


def _pixel_refusal(film: Film) -> Refusal | None:
    """What the pixels alone forbid: too small, without contrast, or shown as a negative."""
    if min(film.rows, film.columns) < SMALLEST_SIDE_PX:
        return Refusal(
            Reason.TOO_SMALL,
            f"{film.columns} × {film.rows} pixels: the short side must have {SMALLEST_SIDE_PX} at "
            "least",
        )
    small = film.pixels
    while min(small.shape) >= _GLANCE_PX:
        small = halve(small)
    low, high = np.percentile(small, (0.5, 99.5))
    if high - low < LEAST_CONTRAST * (255 if small.dtype == np.uint8 else 1):
        return Refusal(Reason.BLANK, "the picture has no contrast")
    if looks_inverted(small.astype(np.float32)):
        return Refusal(
            Reason.POLARITY_UNSURE,
            "the film looks like a negative: lungs bright, spine dark. Its polarity tag, if it has "
            "one, says otherwise; correct it at the source and send the film again",
        )
    return None
