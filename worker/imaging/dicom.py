"""Decode a DICOM film: DX, CR and what else sites send, with the faults that real files have."""

import importlib.util
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from worker.errors import (
    CorruptFile,
    NoPixelData,
    NotAFilm,
    TooLarge,
    TruncatedFile,
    UnsupportedTransferSyntax,
)
from worker.imaging import dicomwalk, rasterwalk
from worker.imaging.dicompixels import render
from worker.imaging.dicomtags import (
    frame_count,
    gate,
    read_patient,
    read_tags,
    text,
    without_picture,
)
from worker.imaging.dicomwalk import Ending
from worker.imaging.limits import DecodeLimits
from worker.imaging.source import Source
from worker.imaging.syntaxes import (
    DEFLATED,
    EXPLICIT_LITTLE,
    JPEG_EXTENDED,
    JPEG_FAMILY,
    RLE,
)
from worker.records import Film, Identity

_GPL_EXTRA = "pip install 'cxr-screen[gpl]'"


def decode_dicom(data: bytes, limits: DecodeLimits, identity: Identity = "off") -> Film:
    """Decode the first frame of a DICOM file; tags that forbid an answer set `refusal`.

    Raises a FilmError where there is no picture to show; pydicom and its decoders raise what they
    like for broken content, which `decode` turns into CorruptFile.
    """
    ds, syntax, notes = read_dataset(data, limits)
    _require_picture(ds, data, limits)
    limits.check_picture(
        int(ds.Rows), int(ds.Columns), frame_count(ds), int(text(ds, "SamplesPerPixel") or 1)
    )
    pixels, assumed = render(ds, _checked_bits(ds, limits))
    if text(ds, "PresentationIntentType") == "FOR PROCESSING":
        assumed.append("for processing: the detector's values, not meant to be shown as they are")
    rows, columns = pixels.shape
    return Film(
        pixels,
        "DICOM",
        rows,
        columns,
        read_tags(ds, syntax),
        tuple(notes + assumed),
        gate(ds),
        read_patient(ds, identity),
    )


def read_dataset(data: bytes, limits: DecodeLimits) -> tuple[Dataset, str, list[str]]:
    """Parse a file, with preamble, meta group and transfer syntax made up for where they lack.

    The second value is the syntax that the file has; what is parsed has been inflated.
    """
    source = Source(BytesIO(data))
    meta = dicomwalk.read_meta(source)
    notes = []
    syntax = meta.transfer_syntax
    if syntax is None:
        syntax = dicomwalk.guess_syntax(source, meta.start)
        notes.append(f"no transfer syntax: taken as {UID(syntax).name}, by the first element")
    elif not meta.has_preamble:
        notes.append("no DICOM preamble")
    if syntax == DEFLATED:
        body = _inflated(data[meta.start :], limits)
        data = _headed(body, EXPLICIT_LITTLE, meta.sop_class)
    elif notes:
        data = _headed(data[meta.start :], syntax, meta.sop_class)
    return pydicom.dcmread(BytesIO(data), force=True), syntax, notes


def _inflated(body: bytes, limits: DecodeLimits) -> bytes:
    data, rest = dicomwalk.inflate(body, limits.max_file_bytes)
    if rest == "more":
        raise TooLarge(
            f"the deflated content grows beyond {limits.max_file_mb} MiB ([decode] max_file_mb)"
        )
    if rest == "cut":
        raise TruncatedFile("the deflated content is cut short: copy the file again")
    if rest == "bad":
        raise CorruptFile("the transfer syntax says deflated, the content is not")
    return data


def _headed(body: bytes, syntax: str, sop_class: str | None) -> bytes:
    """Put preamble and meta group before a bare data set (PS3.10 7.1)."""
    meta = pydicom.dataset.FileMetaDataset()
    if sop_class:
        meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.TransferSyntaxUID = UID(syntax)
    head = DicomBytesIO()
    head.is_little_endian, head.is_implicit_VR = True, False
    write_file_meta_info(head, meta, enforce_standard=False)
    return b"\0" * 128 + b"DICM" + head.getvalue() + body


def _require_picture(ds: Dataset, data: bytes, limits: DecodeLimits) -> None:
    """Raise unless the object has a SOP class, a size and its whole PixelData."""
    ending = dicomwalk.ending(Source(BytesIO(data)), limits.max_file_bytes)
    named = text(ds, "SOPClassUID") or "MediaStorageSOPClassUID" in ds.file_meta
    cut = ending is Ending.CUT or (ending is Ending.UNFINISHED and "Rows" not in ds)
    if cut and (named or data[128:132] == b"DICM"):
        raise TruncatedFile("the DICOM file ends before its content does: copy it again")
    if not named:
        raise NotAFilm("the content looks like DICOM but names no SOP class")
    if not ds.get("PixelData"):
        raise NoPixelData(without_picture(ds))
    if ds.get("Rows") is None or ds.get("Columns") is None:
        raise CorruptFile("the picture has no Rows or no Columns")
    if not (_whole(ds.Rows) and _whole(ds.Columns)):
        raise CorruptFile(f"the picture claims {ds.Rows} × {ds.Columns} pixels")


def _whole(count: object) -> bool:
    return isinstance(count, int) and count > 0


def _checked_bits(ds: Dataset, limits: DecodeLimits) -> int:
    """Check the first frame before a decoder sees it: decoder there, size claimed, bytes there.

    Gives the bits in which each of its values comes.
    """
    uid = UID(ds.file_meta.TransferSyntaxUID)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError as error:
        raise UnsupportedTransferSyntax(f"no decoder reads {uid.name}") from error
    if not uid.is_encapsulated:
        _check_native(ds)
        return int(ds.BitsAllocated)
    if not decoder.is_available:
        raise UnsupportedTransferSyntax(f"no installed decoder reads {uid.name}: {_GPL_EXTRA}")
    frames = generate_frames(ds.PixelData, number_of_frames=frame_count(ds))
    size = _codestream_size(next(frames), uid)
    if size is None:
        return int(ds.BitsAllocated)
    limits.check_picture(size.rows, size.columns, size.samples)
    if size.rows > ds.Rows or size.columns > ds.Columns:
        raise CorruptFile(
            f"the compressed picture has {size.rows} × {size.columns} pixels, its tags say "
            f"{ds.Rows} × {ds.Columns}"
        )
    if uid not in JPEG_FAMILY:
        _check_samples(ds, size.samples)
    if uid == JPEG_EXTENDED and size.bits > 8 and not importlib.util.find_spec("libjpeg"):
        raise UnsupportedTransferSyntax(f"12-bit {uid.name} needs the GPL decoder: {_GPL_EXTRA}")
    return size.bits


def _check_samples(ds: Dataset, samples: int) -> None:
    """Raise CorruptFile when tags and JPEG 2000 disagree on samples: GDCM ends its process then."""
    photometric = text(ds, "PhotometricInterpretation")
    meant = 1 if photometric.startswith(("MONOCHROME", "PALETTE")) else 3
    if not samples == meant == ds.get("SamplesPerPixel"):
        raise CorruptFile(
            f"PhotometricInterpretation {photometric[:16]!r} means {meant} samples per pixel, the "
            f"picture has {samples}"
        )


def _check_native(ds: Dataset) -> None:
    bits = int(ds.Rows) * int(ds.Columns) * int(ds.SamplesPerPixel) * int(ds.BitsAllocated)
    expected = bits * frame_count(ds) // 8
    if text(ds, "PhotometricInterpretation") == "YBR_FULL_422":
        expected = expected * 2 // 3  # PS3.3 C.7.6.3.1.2: half of the colour samples
    if len(ds.PixelData) < expected:
        raise TruncatedFile(f"PixelData has {len(ds.PixelData)} of {expected} bytes")


def _codestream_size(frame: bytes, syntax: str) -> rasterwalk.Size | None:
    """What the frame's own header claims: decoders believe it, not Rows and Columns.

    Raises TruncatedFile for a JPEG without its end marker.
    """
    source = Source(BytesIO(frame))
    if syntax in JPEG_FAMILY:
        outline = rasterwalk.jpeg_outline(source)
        if not outline.is_complete:
            raise TruncatedFile("the compressed picture in the DICOM file is cut short")
        return outline.size
    if syntax == RLE:
        return None
    return rasterwalk.jpeg2000_size(source, max(0, frame.find(rasterwalk.JPEG2000_START)))
