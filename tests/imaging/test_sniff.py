"""Films are recognised by content, and known to be whole before they are taken."""

import io
import os
import struct
import tracemalloc
import zlib
from io import BytesIO

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.imaging.conftest import chest_like
from worker.imaging.dicomwalk import inflate
from worker.imaging.rasterwalk import jpeg_outline, png_size
from worker.imaging.sniff import HEAD_BYTES, Kind, is_complete, is_whole, sniff
from worker.imaging.source import Source


def test_content_decides_the_kind(jpeg, png, dicom):
    film = dicom()
    assert sniff(jpeg[:HEAD_BYTES]) is Kind.JPEG
    assert sniff(png[:HEAD_BYTES]) is Kind.PNG
    assert sniff(film[:HEAD_BYTES]) is Kind.DICOM
    assert sniff(b"<html>" + b" " * 200) is Kind.OTHER
    assert sniff(b"") is Kind.OTHER


def test_dicom_prefix_counts_whatever_the_preamble_holds(dicom, jpeg):
    film = jpeg[:128] + dicom()[128:]
    assert sniff(film) is Kind.DICOM


def test_dicom_without_preamble_is_recognised(dicom):
    assert sniff(dicom()[132:]) is Kind.DICOM


@pytest.mark.parametrize("implicit", [False, True])
def test_bare_data_set_is_recognised(dicom, implicit):
    ds = pydicom.dcmread(BytesIO(dicom()))
    bare = pydicom.filebase.DicomBytesIO()
    bare.is_little_endian, bare.is_implicit_VR = True, implicit
    pydicom.filewriter.write_dataset(bare, pydicom.Dataset(ds))
    assert sniff(bare.getvalue()[:HEAD_BYTES]) is Kind.DICOM
    assert is_whole(bare.getvalue())
    assert not is_whole(bare.getvalue()[:-1])


def test_headers_give_the_size(jpeg, png):
    for size in (jpeg_outline(Source(BytesIO(jpeg))).size, png_size(Source(BytesIO(png)))):
        assert size is not None
        assert (size.rows, size.columns, size.bits) == (256, 256, 8)


def test_a_jpeg_cut_anywhere_is_never_complete(jpeg):
    assert is_whole(jpeg)
    for cut in range(1, len(jpeg), 37):
        assert not is_whole(jpeg[:cut]) or sniff(jpeg[:cut]) is Kind.OTHER
    assert not is_whole(jpeg[:-1])


def _progressive(chest, **options):
    file = io.BytesIO()
    Image.fromarray(chest).save(file, "JPEG", progressive=True, **options)
    return file.getvalue()


def test_a_progressive_jpeg_is_complete_only_after_its_last_scan(chest):
    film = _progressive(chest)
    assert film.count(b"\xff\xda") > 1
    assert is_whole(film)
    assert not any(is_whole(film[:cut]) for cut in range(3, len(film), 101))


def test_restart_markers_do_not_end_a_jpeg(chest):
    film = cv2.imencode(".jpg", chest, [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])[1].tobytes()
    assert b"\xff\xd0" in film
    assert is_whole(film)
    assert not is_whole(film[: len(film) // 2])


def test_a_thumbnail_in_a_segment_does_not_end_a_jpeg(jpeg):
    thumbnail = jpeg[:2000] + b"\xff\xd9"
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    film = jpeg[:2] + segment + jpeg[2:]
    assert is_whole(film)
    assert not is_whole(film[: len(film) - 100])


def test_bytes_after_the_end_do_not_matter(jpeg, png, dicom):
    for film in (jpeg, png, dicom()):
        assert is_whole(film + b"\0" * 1000)


def test_a_preallocated_copy_is_not_complete(jpeg, png):
    for film in (jpeg, png):
        assert not is_whole(film[: len(film) // 2].ljust(len(film), b"\0"))


def preallocated(film, filled):
    return film[:filled].ljust(len(film), b"\0")


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_preallocated_copy_of_a_native_dicom_film_is_not_complete(dicom, depth):
    """Windows gives a file its whole size, then fills it; a pause was taken for its end."""
    stored = (chest_like(500, 430) * 4095).astype(np.uint16)
    film = dicom(stored if depth == np.uint16 else (stored >> 4).astype(np.uint8))
    row, start = 430 * np.dtype(depth).itemsize, len(film) - 500 * 430 * np.dtype(depth).itemsize
    breaks = range((start + row) // 4096 * 4096 + 4096, len(film) - row, 4096)
    seen = [filled for filled in breaks if not is_whole(preallocated(film, filled))]
    hidden = [filled for filled in breaks if filled not in seen]
    assert len(seen) > 0.9 * len(breaks)
    for filled in hidden:  # where the row above is dark as well, at its end
        assert (filled - start) % row > 0.9 * row
    assert not any(is_whole(preallocated(film, filled)) for filled in range(200, start, 37))


def test_a_preallocated_copy_of_an_encapsulated_dicom_film_is_not_complete(dicom):
    ds = pydicom.dcmread(BytesIO(dicom((chest_like(500, 430) * 4095).astype(np.uint16))))
    ds.compress(pydicom.uid.RLELossless)
    file = BytesIO()
    ds.save_as(file)
    film = file.getvalue()
    assert not any(is_whole(preallocated(film, filled)) for filled in range(200, len(film), 4096))


@pytest.mark.parametrize(("slope", "most"), [(0.0, 0), (0.002, 2), (-0.002, 2), (0.05, 2)])
def test_a_film_with_a_black_margin_is_complete_wherever_its_pixels_lie_in_the_file(
    dicom, slope, most
):
    """Of those with a slanted margin, one in 2000 is taken for a half copy."""
    film = chest_like(500, 430)
    y, x = np.mgrid[0:500, 0:430]
    film[y > 380 + slope * x] = 0
    stored = (film * 4095).astype(np.uint16)
    places = [dicom(stored, ImageComments="x" * padding) for padding in range(0, 4096, 2)]
    assert sum(not is_whole(data) for data in places) <= most


def test_a_black_film_is_complete(dicom):
    assert is_whole(dicom(np.zeros((300, 300), np.uint16)))


def test_a_png_cut_anywhere_is_never_complete(png):
    assert is_whole(png)
    assert not any(is_whole(png[:cut]) for cut in range(8, len(png), 97))


def test_native_dicom_is_complete_with_its_last_pixel(dicom):
    film = dicom()
    assert is_whole(film)
    assert not any(is_whole(film[:cut]) for cut in range(200, len(film), 997))
    assert not is_whole(film[:-1])


def test_encapsulated_dicom_is_complete_with_its_delimiter(dicom):
    ds = pydicom.dcmread(BytesIO(dicom()))
    ds.compress(pydicom.uid.RLELossless)
    file = BytesIO()
    ds.save_as(file)
    film = file.getvalue()
    assert is_whole(film)
    assert not is_whole(film[:-1])
    assert not any(is_whole(film[:cut]) for cut in range(400, len(film), 499))


def test_deflated_dicom_is_judged_by_what_it_holds(dicom):
    film = _deflated(dicom())
    assert is_whole(film)
    assert not is_whole(film[:-200])


def _deflated(film):
    ds = pydicom.dcmread(BytesIO(film))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    file = BytesIO()
    pydicom.dcmwrite(file, ds)
    return file.getvalue()


def test_deeply_nested_sequences_are_walked_without_recursion():
    item = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    assert is_whole(b"\0" * 128 + b"DICM" + item * 100_000)


def test_a_deflate_bomb_is_inflated_no_further_than_the_cap():
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(200)) + deflate.flush()
    tracemalloc.start()
    body, rest = inflate(bomb, cap=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(body), rest) == (1 << 20, "more")
    assert peak < 8 << 20


def test_an_empty_file_is_not_complete_and_no_film_is(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello")
    assert not is_complete(tmp_path / "empty")
    assert is_complete(tmp_path / "text")


def test_a_pipe_in_the_inbox_blocks_nobody(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match=r".*"):
        is_complete(tmp_path / "pipe.jpg")


@given(st.binary(max_size=400), st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"DICM"]))
def test_any_bytes_are_judged_without_an_error(noise, start):
    head = b"\0" * 128 + start if start == b"DICM" else start
    assert is_whole(head + noise) in (True, False)


def test_hostile_files_are_judged_without_an_error(shared_data):
    for folder in ("fuzz", "dicom/malformed"):
        for film in sorted((shared_data / folder).iterdir()):
            assert is_complete(film) in (True, False)


def test_whole_films_are_complete(shared_data):
    for folder in ("dicom/chest", "dicom/other", "kermany/originals/NORMAL"):
        for film in sorted((shared_data / folder).iterdir()):
            assert is_complete(film), film.name


def test_pixels_are_not_needed_for_a_size():
    head = np.zeros(4, np.uint8).tobytes()
    assert jpeg_outline(Source(BytesIO(head))).size is None
    assert png_size(Source(BytesIO(head))) is None
