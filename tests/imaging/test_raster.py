"""JPEG and PNG films keep their grey levels and their shape, or fail by name."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from worker.errors import CorruptFile, NotAFilm, TooLarge, TruncatedFile
from worker.imaging.decode import decode
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
