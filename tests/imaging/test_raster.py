"""JPEG and PNG films keep their grey levels and their shape, or fail by name."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.imaging.conftest import chest_like
from worker.errors import CorruptFile, NotAFilm, TooLarge, TruncatedFile
from worker.imaging.decode import decode
from worker.imaging.prepare import halve, model_input
from worker.imaging.raster import nominal_bits
from worker.records import Reason


def png_of(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_a_png_comes_out_as_it_went_in(chest):
    film = decode(png_of(chest))
    assert film.pixels.dtype == np.uint8
    np.testing.assert_array_equal(film.pixels, chest)
    assert (film.format, film.notes, film.refusal) == ("PNG", (), None)


def test_a_jpeg_comes_out_as_a_viewer_shows_it(chest, jpeg):
    film = decode(jpeg)
    assert film.format == "JPEG"
    assert np.abs(film.pixels.astype(int) - chest).mean() < 2


def test_a_12_bit_film_in_a_16_bit_png_keeps_its_levels(chest):
    deep = (chest.astype(np.float32) / 255 * 3900).astype(np.uint16)
    film = decode(png_of(deep))
    np.testing.assert_allclose(film.pixels, deep / 4095, atol=1e-6)
    assert len(np.unique(film.pixels)) == len(np.unique(deep))
    assert film.notes == ("16-bit PNG taken as 12-bit, by its brightest pixel",)


@pytest.mark.parametrize(("most", "bits"), [(0, 8), (255, 8), (256, 9), (4095, 12), (65535, 16)])
def test_the_depth_of_a_16_bit_file_is_guessed_from_its_maximum(most, bits):
    assert nominal_bits(most) == bits


def test_colour_becomes_luminance_not_channel_0(chest):
    bgr = np.zeros((*chest.shape, 3), np.uint8)
    bgr[..., 2] = chest  # red only
    film = decode(png_of(bgr))
    np.testing.assert_allclose(film.pixels / 255, chest / 255 * 0.299, atol=0.004)
    assert "colour picture: its luminance is taken" in film.notes


def test_a_grey_film_stored_as_rgb_says_nothing_of_colour(chest):
    film = decode(png_of(np.dstack([chest] * 3)))
    np.testing.assert_array_equal(film.pixels, chest)
    assert film.notes == ()


def test_what_is_transparent_is_black(chest):
    bgra = np.dstack([chest, chest, chest, np.full_like(chest, 255)])
    assert decode(png_of(bgra)).notes == ()
    bgra[:50, :, 3] = 0
    film = decode(png_of(bgra))
    assert film.pixels[:50].max() == 0
    assert film.notes == ("transparent parts are taken as black",)


def test_a_palette_png_is_read(chest, tmp_path):
    Image.fromarray(chest).convert("P").save(tmp_path / "palette.png")
    film = decode((tmp_path / "palette.png").read_bytes())
    np.testing.assert_array_equal(film.pixels, chest)


def test_exif_orientation_is_applied_to_jpeg(chest, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° to show
    Image.fromarray(chest[:, :200]).save(tmp_path / "turned.jpg", exif=exif)
    assert decode((tmp_path / "turned.jpg").read_bytes()).pixels.shape == (200, 256)


def test_a_jpeg_cut_short_is_truncated_not_half_grey(jpeg):
    for share in (0.1, 0.5, 0.9, 0.999):
        with pytest.raises(TruncatedFile):
            decode(jpeg[: int(len(jpeg) * share)])


def test_a_png_cut_short_is_truncated(png):
    with pytest.raises(TruncatedFile):
        decode(png[: len(png) // 2])


def test_a_png_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    bomb += (
        struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IEND" + b"\xae\x42\x60\x82"
    )
    with pytest.raises(TooLarge, match="30000 × 30000"):
        decode(bomb)


def test_a_jpeg_that_claims_438_megapixels_is_too_large(jpeg):
    at = jpeg.index(b"\xff\xc0")
    bomb = jpeg[: at + 5] + struct.pack(">HH", 56_321, 7_789) + jpeg[at + 9 :]
    with pytest.raises(TooLarge, match="56321 × 7789"):
        decode(bomb)


def test_a_file_beyond_the_limit_is_too_large(jpeg, limits):
    with pytest.raises(TooLarge):
        decode(jpeg.ljust(limits.max_file_bytes + 1, b"\0"), limits)


def test_what_is_no_film_says_so():
    for content in (b"GIF89a" + b"\0" * 200, b"<html>", b"\0" * 5000):
        with pytest.raises(NotAFilm):
            decode(content)


def test_an_empty_file_is_truncated():
    with pytest.raises(TruncatedFile):
        decode(b"")


def test_a_broken_jpeg_is_corrupt():
    with pytest.raises(CorruptFile):
        decode(b"\xff\xd8\xff\xd9")


def test_a_small_picture_is_refused_but_shown(chest):
    film = decode(png_of(chest[:99]))
    assert film.refusal is not None
    assert film.refusal.reason is Reason.TOO_SMALL
    assert decode(png_of(cv2.resize(chest, (100, 169)))).refusal is None


def test_a_blank_picture_is_refused():
    film = decode(png_of(np.full((300, 300), 120, np.uint8)))
    assert film.refusal is not None
    assert film.refusal.reason is Reason.BLANK


# Large JPEGs, decoded at half scale


def large_jpeg(rows, columns, orientation=1):
    """A film whose corners differ, with an EXIF orientation."""
    film = np.asarray(cv2.resize(chest_like(), (columns, rows)) * 200, np.uint8)
    film[: rows // 3, : columns // 4] = 250
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    Image.fromarray(film).save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_halved_and_keeps_its_rows_columns_and_orientation(orientation):
    film = decode(large_jpeg(2101, 1503, orientation))
    whole = decode(large_jpeg(2101, 1503, orientation), picture_px=4096)
    sides = (2101, 1503) if orientation <= 4 else (1503, 2101)
    assert (film.rows, film.columns) == (whole.rows, whole.columns) == whole.pixels.shape == sides
    assert film.pixels.shape == tuple((side + 1) // 2 for side in sides)
    difference = np.abs(halve(whole.pixels).astype(int) - film.pixels)
    assert difference.mean() < 1


@pytest.mark.parametrize(
    ("rows", "columns", "picture_px", "is_half"),
    [
        (2048, 896, 1024, True),
        (896, 2048, 1024, True),
        (2047, 1500, 0, False),
        (2500, 895, 0, False),
        (2048, 2048, 1024, True),
        (2048, 2047, 0, False),  # halves alike: whether EXIF has turned it could not be told
        (3000, 2000, 1500, True),
        (3000, 2000, 1501, False),  # larger pictures are still delivered
    ],
)
def test_what_is_halved(rows, columns, picture_px, is_half):
    film = decode(large_jpeg(rows, columns), picture_px=picture_px)
    assert (film.rows, film.columns) == (rows, columns)
    assert (film.pixels.shape != (rows, columns)) == is_half


def test_a_large_colour_jpeg_is_halved_and_said_to_be_one():
    grey = np.asarray(cv2.resize(chest_like(), (1500, 2100)) * 255, np.uint8)
    film = decode(cv2.imencode(".jpg", np.dstack([grey, grey // 2, grey // 3]))[1].tobytes())
    assert film.pixels.shape == (1050, 750)
    assert film.notes == ("colour picture: its luminance is taken",)


def test_a_lossless_jpeg_has_no_half_scale():
    """Process 14 (T.81 annex H): every difference is 0, one bit each, so all is mid-grey."""
    rows, columns = 2100, 1504
    parts = (
        b"\xff\xd8",
        b"\xff\xc4" + struct.pack(">HB16sB", 20, 0, bytes([1, *[0] * 15]), 0),
        b"\xff\xc3" + struct.pack(">HBHHB3B", 11, 8, rows, columns, 1, 1, 0x11, 0),
        b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 1, 0, 0),
        bytes(rows * columns // 8) + b"\xff\xd9",
    )
    film = decode(b"".join(parts))
    assert (film.rows, film.columns) == film.pixels.shape == (rows, columns)


@pytest.mark.parametrize("picture_px", [512, 1024, 2000, 4096])
def test_the_models_input_does_not_depend_on_the_pictures_size(picture_px):
    data = large_jpeg(2305, 2553)
    inputs = [
        model_input(film.pixels, 224, 1, 99, (film.rows, film.columns))
        for film in (decode(data), decode(data, picture_px=picture_px))
    ]
    assert np.abs(np.subtract(*inputs)).max() <= 1 / 255


def test_the_models_input_of_a_turned_half_is_that_of_the_whole():
    """But for half a pixel of the file: of an odd side the first block is cut, not the last."""
    data = large_jpeg(2305, 2553, orientation=8)
    inputs = [
        model_input(film.pixels, 224, 1, 99, (film.rows, film.columns))
        for film in (decode(data), decode(data, picture_px=4096))
    ]
    assert np.abs(np.subtract(*inputs)).mean() <= 0.5 / 255
