"""Hostile content ends in a named failure, or is shown as it is, at a bounded price."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image

from worker.errors import CorruptFile, FilmError, NotAFilm, TooLarge, UnsupportedTransferSyntax
from worker.imaging import decode as decode_module
from worker.imaging import rasterwalk
from worker.imaging.decode import decode
from worker.imaging.source import Source

JPEG_BASELINE, JPEG_2000, RLE = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)
MIB = 1 << 20


# PNG


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_text_in_a_png_is_not_inflated(png, chest, kind):
    """256 MiB of nothing in a text chunk: libpng is not asked for it, or stops at its own cap."""
    deflate = zlib.compressobj(9)
    bomb = b"".join(deflate.compress(bytes(MIB)) for _ in range(256)) + deflate.flush()
    lead = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"icc\0\0"}[kind]
    tracemalloc.start()
    film = decode(png[:33] + chunk(kind, lead + bomb) + png[33:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(film.pixels, chest)
    assert peak < 16 * MIB


def test_a_png_of_a_hundred_thousand_chunks_is_left_to_the_decoder(png, chest):
    film = decode(png[:33] + chunk(b"tEXt", b"C\0x") * 100_001 + png[33:])
    np.testing.assert_array_equal(film.pixels, chest)


@pytest.mark.parametrize("header", [b"", b"\0" * 25])
def test_a_png_without_a_header_chunk_is_a_failure(header):
    with pytest.raises(FilmError):
        decode(rasterwalk.PNG_SIGNATURE + header + chunk(b"IEND", b""))


# JPEG


def resized(jpeg, rows, columns, at=0):
    """The JPEG with another size in its frame header."""
    at = jpeg.index(b"\xff\xc0", at)
    return jpeg[: at + 5] + struct.pack(">HH", rows, columns) + jpeg[at + 9 :]


def test_a_jpeg_of_65535_squared_is_too_large(jpeg):
    with pytest.raises(TooLarge):
        decode(resized(jpeg, 65_535, 65_535))


def test_fill_bytes_do_not_hide_a_frame_header(jpeg):
    """Markers may be padded with FF (T.81 B.1.1.2): the first header counts, not the next."""
    at = jpeg.index(b"\xff\xc0")
    header = resized(jpeg, 65_000, 65_000)[at : at + 13]
    with pytest.raises(TooLarge):
        decode(jpeg[:2] + b"\xff\xff" + header + jpeg[2:])


def test_a_second_frame_header_is_corrupt(jpeg):
    at = jpeg.index(b"\xff\xc0")
    header = resized(jpeg, 65_000, 65_000)[at : at + 13]
    with pytest.raises(CorruptFile):
        decode(jpeg[: at + 13] + header + jpeg[at + 13 :])


def test_a_jpeg_without_height_is_corrupt(jpeg):
    with pytest.raises(CorruptFile):
        decode(resized(jpeg, 0, 256))


@pytest.mark.parametrize("cut", [3, 6])
def test_a_frame_header_that_ends_early_has_no_size(jpeg, cut):
    at = jpeg.index(b"\xff\xc0")
    assert rasterwalk.jpeg_outline(Source(io.BytesIO(jpeg[: at + cut]))).size is None


@pytest.mark.parametrize("scans", [101, 20_000])
def test_a_jpeg_of_many_scans_is_corrupt_before_it_is_decoded(chest, scans):
    """Each scan is a pass over the whole picture: 3,000 of them, 40 kB, took minutes."""
    file = io.BytesIO()
    Image.fromarray(chest).save(file, "JPEG", progressive=True)
    film = file.getvalue()
    assert decode(film).format == "JPEG"
    end = film.rindex(b"\xff\xd9")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10\0\0"
    with pytest.raises(CorruptFile, match="more than 100 scans"):
        decode(film[:end] + scan * scans + film[end:])


# What the content is, whatever it begins with


@pytest.mark.parametrize("start", [b"MZ", b"\x7fELF", b"\xff\xd8\xff\xe0", b"\x89PNG", b"%PDF-1.7"])
def test_a_preamble_that_looks_like_something_else_is_a_preamble(dicom, start):
    whole = dicom()
    film = decode(start + whole[len(start) :])
    assert film.format == "DICOM"
    np.testing.assert_array_equal(film.pixels, decode(whole).pixels)


def test_archives_programs_and_documents_are_no_films(dicom):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("film.dcm", dicom())
    for content in (archive.getvalue(), b"MZ" * 200, b"\x7fELF" * 200, b"%PDF-1.7\n" * 100):
        with pytest.raises(NotAFilm):
            decode(content)


# Encapsulated frames


def fragment(body):
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


NO_OFFSETS, END = fragment(b""), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def encapsulated(dicom, syntax, *frames, pixel_data=None, **tags):
    """An 8-bit DICOM film, 256 × 256, with this compressed content."""
    stored = np.zeros((256, 256), np.uint8)
    ds = pydicom.dcmread(io.BytesIO(dicom(stored, BitsStored=8, HighBit=7, **tags)))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    bodies = (frame + b"\0" * (len(frame) % 2) for frame in frames)
    ds.PixelData = pixel_data or NO_OFFSETS + b"".join(map(fragment, bodies)) + END
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds)
    return file.getvalue()


def codestream(chest, **changes):
    """A JPEG 2000 codestream; changes are (offset, bytes) in its SIZ segment."""
    wrapped = cv2.imencode(".jp2", chest)[1].tobytes()
    stream = bytearray(wrapped[wrapped.index(rasterwalk.JPEG2000_START) :])
    for offset, value in changes.values():
        stream[offset : offset + len(value)] = value
    return bytes(stream)


HUGE = {"size": (8, struct.pack(">II", 60_000, 60_000))}


def test_compressed_films_are_read(dicom, chest, jpeg):
    for syntax, frame in ((JPEG_BASELINE, jpeg), (JPEG_2000, codestream(chest))):
        pixels = decode(
            encapsulated(dicom, syntax, frame, WindowCenter=128, WindowWidth=256)
        ).pixels
        assert np.abs(pixels * 255 - chest).mean() < 2


def test_a_compressed_frame_that_claims_too_much_is_too_large(dicom, chest, jpeg):
    wrapped = (
        cv2.imencode(".jp2", chest)[1]
        .tobytes()
        .replace(codestream(chest), codestream(chest, **HUGE))
    )
    for syntax, frame in (
        (JPEG_BASELINE, resized(jpeg, 65_535, 65_535)),
        (JPEG_2000, codestream(chest, **HUGE)),
        (JPEG_2000, codestream(chest, components=(40, struct.pack(">H", 16_384)))),
        (JPEG_2000, wrapped),  # in JP2 boxes: their size was not looked at
    ):
        with pytest.raises(TooLarge):
            decode(encapsulated(dicom, syntax, frame))


def test_a_compressed_frame_larger_than_its_tags_is_not_decoded(dicom, chest, jpeg):
    large = cv2.imencode(".jpg", np.zeros((2000, 2000), np.uint8))[1].tobytes()
    for syntax, frame in (
        (JPEG_BASELINE, large),
        (JPEG_2000, codestream(np.zeros((300, 256), np.uint8))),
    ):
        with pytest.raises(CorruptFile, match="its tags say 256 × 256"):
            decode(encapsulated(dicom, syntax, frame))


def test_a_jpeg_2000_of_81_million_tiles_is_corrupt(dicom, chest):
    tiles = {"size": (8, struct.pack(">II", 256, 256)), "tile": (24, struct.pack(">II", 1, 1))}
    with pytest.raises(CorruptFile):
        decode(encapsulated(dicom, JPEG_2000, codestream(chest, **tiles)))


def test_broken_runs_are_corrupt(dicom):
    with pytest.raises(CorruptFile):
        decode(encapsulated(dicom, RLE, b"\x0f\0\0\0" + b"\xff" * 1000))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(NO_OFFSETS + fragment(b"") * 200_000 + END, id="empty fragments"),
        pytest.param(NO_OFFSETS + fragment(b"\xff\xd8") * 200_000 + END, id="tiny fragments"),
        pytest.param(fragment(bytes(4_000_000)) + fragment(b"\xff\xd8") + END, id="offsets"),
        pytest.param(fragment(b"\0\0\0") + fragment(b"\xff\xd8") + END, id="half an offset"),
        pytest.param(NO_OFFSETS + END, id="no fragment"),
        pytest.param(NO_OFFSETS + fragment(b"ab") + b"\0" * 8 + END, id="no item"),
    ],
)
def test_fragments_of_any_number_and_kind_end_in_a_failure(dicom, content):
    with pytest.raises(FilmError):
        decode(encapsulated(dicom, JPEG_BASELINE, pixel_data=content))


# Tags


def palette(dicom, entries, data, segmented=False):
    """A palette film whose three tables have this descriptor and these bytes."""
    ds = pydicom.dcmread(io.BytesIO(dicom(PhotometricInterpretation="PALETTE COLOR")))
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        ds.add_new(f"{name}Descriptor", "US", [entries, 0, 16])
        ds.add_new(f"{'Segmented' if segmented else ''}{name}Data", "OW", data)
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds)
    return file.getvalue()


def test_a_palette_is_shown_as_luminance(dicom):
    film = decode(palette(dicom, 4096, np.arange(4096, dtype="<u2").tobytes()))
    assert "colour picture: its luminance is taken" in film.notes


SEGMENTS = {
    "indirect": struct.pack("<3H", 0, 1, 7) + struct.pack("<4H", 2, 1, 0, 0) * 2_000,
    "itself": struct.pack("<4H", 2, 1, 0, 0),
    "linear": struct.pack("<3H", 0, 1, 7) + struct.pack("<3H", 1, 65_535, 9) * 50,
    "empty": struct.pack("<3H", 1, 0, 0) * 70_000,
    "unknown": struct.pack("<3H", 9, 1, 7),
}


@pytest.mark.parametrize("data", [b"", bytes(3), bytes(200)])
def test_a_palette_shorter_than_it_says_is_corrupt(dicom, data):
    with pytest.raises(CorruptFile):
        decode(palette(dicom, 60_000, data))


def test_a_segmented_palette_is_shown(dicom):
    line = struct.pack("<3H", 0, 1, 0) + struct.pack("<3H", 1, 4095, 65_535)
    film = decode(palette(dicom, 4096, line, segmented=True))
    assert film.pixels.max() > 0.9


@pytest.mark.parametrize("name", ["gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm"])
def test_real_segmented_palettes_are_shown_in_either_byte_order(name):
    film = decode(Path(pydicom.data.get_testdata_file(name, download=False)).read_bytes())
    assert film.notes == ("colour picture: its luminance is taken",)


@pytest.mark.parametrize("kind", sorted(SEGMENTS))
def test_a_segmented_palette_that_unfolds_without_end_is_corrupt(dicom, kind):
    with pytest.raises(FilmError):
        decode(palette(dicom, 0, SEGMENTS[kind], segmented=True))


NESTED = bytes.fromhex("0800401153510000ffffffff feff00e0ffffffff")


@pytest.mark.parametrize("depth", [60, 1000, 100_000])
def test_nesting_of_any_depth_ends_in_a_failure(dicom, depth):
    whole = dicom()
    start = pydicom.dcmread(io.BytesIO(whole)).file_meta.FileMetaInformationGroupLength + 144
    with pytest.raises(FilmError):
        decode(whole[:start] + NESTED * depth + whole[start:])


@pytest.mark.parametrize(
    "tags",
    [
        {"NumberOfFrames": 2**31 - 1},
        {"SamplesPerPixel": 65_535},
        {"BitsAllocated": 65_535},
        {"BitsStored": 60},
        {"HighBit": 3},
        {"RescaleSlope": "1e30", "RescaleIntercept": "1e30", "WindowWidth": "nan"},
        {"RescaleSlope": "nan", "RescaleIntercept": "0"},
    ],
)
def test_tags_that_contradict_the_pixels_end_in_a_film_or_its_failure(dicom, tags):
    try:
        film = decode(dicom(**tags))
    except FilmError:
        return
    assert np.isfinite(film.pixels).all()


def test_a_library_that_cannot_be_loaded_is_not_the_films_fault(jpeg, monkeypatch):
    def fail(*_):
        raise ImportError("no module named x")

    monkeypatch.setattr(decode_module, "decode_raster", fail)
    with pytest.raises(UnsupportedTransferSyntax, match="screen doctor"):
        decode(jpeg)


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("Insufficient memory")])
def test_memory_that_runs_out_is_too_large(jpeg, monkeypatch, error):
    def fail(*_):
        raise error

    error.code = cv2.Error.STS_NO_MEM
    monkeypatch.setattr(decode_module, "decode_raster", fail)
    with pytest.raises(TooLarge):
        decode(jpeg)


@pytest.mark.parametrize("tags", [{"PhotometricInterpretation": "RGB"}, {"HighBit": 3}])
def test_pixels_that_contradict_their_tags_are_corrupt(dicom, tags):
    with pytest.raises(CorruptFile):
        decode(dicom(**tags))


def test_padding_that_covers_the_whole_film_is_ignored(dicom):
    film = decode(dicom(np.full((128, 128), 5, np.uint16), PixelPaddingValue=5))
    assert "PixelPaddingValue covers the whole film: ignored" in film.notes


def test_a_signed_film_with_padding_written_as_unsigned(dicom):
    stored = np.tile(np.arange(-64, 64, dtype=np.int16), (128, 1))
    tags = {"BitsStored": 16, "HighBit": 15, "WindowCenter": 0, "WindowWidth": 128}
    film = decode(dicom(stored, PixelPaddingValue=-64, **tags))
    assert film.pixels[:, 0].max() == 0


def test_identity_beside_monochrome1_is_noted(dicom):
    film = decode(dicom(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"))
    assert "MONOCHROME1 with PresentationLUTShape IDENTITY: taken as MONOCHROME1" in film.notes


def test_a_rescale_beyond_all_numbers_is_corrupt(dicom):
    with pytest.raises(CorruptFile, match="no numbers"):
        decode(dicom(RescaleSlope="1e300", RescaleIntercept="1e300"))
