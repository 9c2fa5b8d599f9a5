"""Heat maps: one scale for all films."""

import re

import cv2
import numpy as np
import pytest

from worker.assets import asset
from worker.report.overlay import blend, heat_png, legend, peak

SCALE = 6.0
OPACITY = 0.65  # of the page, unless its reader changes it


def grid(**cells):
    evidence = np.zeros((7, 7), np.float32)
    for name, value in cells.items():
        evidence[int(name[1]), int(name[2])] = value
    return evidence


def rgba(evidence, side_px=224):
    png = heat_png(evidence, SCALE, side_px)
    bgra = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return bgra[..., [2, 1, 0, 3]].astype(int)


def at_cell(picture, row, column):
    step = picture.shape[0] // 7
    return picture[row * step + step // 2, column * step + step // 2]


def test_twice_the_evidence_is_brighter_and_more_opaque():
    once, twice = (at_cell(rgba(grid(c33=value)), 3, 3) for value in (2, 4))
    assert twice[:3].sum() > once[:3].sum()
    assert twice[3] > once[3]


def test_same_evidence_has_the_same_colour_in_films_with_different_maxima():
    faint = at_cell(rgba(grid(c11=2)), 1, 1)
    beside_hot = at_cell(rgba(grid(c11=2, c55=6)), 1, 1)
    assert np.abs(faint - beside_hot).max() <= 1


@pytest.mark.parametrize("value", [0, -0.5, -50])
def test_no_evidence_and_evidence_against_are_fully_transparent(value):
    assert not rgba(np.full((7, 7), value, np.float32))[..., 3].any()


def test_a_cell_that_speaks_against_pneumonia_makes_no_evidence_beside_it():
    assert not rgba(grid(c33=-50))[..., 3].any()


def test_no_pixel_is_hotter_than_the_hottest_cell():
    plateau = np.zeros((7, 7), np.float32)
    plateau[2:5, 2:5] = 3
    highest = rgba(np.full((7, 7), 3, np.float32))[..., 3].max()
    assert rgba(plateau)[..., 3].max() == highest


def test_evidence_beyond_the_scale_has_the_colour_of_its_end():
    end, beyond = (rgba(np.full((7, 7), value, np.float32)) for value in (SCALE, 3 * SCALE))
    assert np.array_equal(end, beyond)


def test_legend_shows_the_colours_of_the_map():
    first, *_, last = legend()
    assert (first.offset, first.alpha, last.offset) == (0, 0, 1)
    red, green, blue, alpha = rgba(np.full((7, 7), SCALE, np.float32))[0, 0]
    assert last.colour == f"#{red:02x}{green:02x}{blue:02x}"
    assert last.alpha == pytest.approx(alpha / 255, abs=1e-3)


def test_the_ramp_grows_in_brightness_without_a_step_back():
    bright = [
        int(stop.colour[1:3], 16) * 0.3 + int(stop.colour[3:5], 16) * 0.6 for stop in legend()
    ]
    assert bright == sorted(bright)


# Machado, Oliveira and Fernandes 2009, severity 1.0; on linear RGB.
SEEN_BY = {
    "everybody": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lightness(linear):
    """CIE 1976 L* of linear sRGB (…, 3), D65."""
    luminance = linear.clip(0, 1) @ [0.2126, 0.7152, 0.0722]
    return np.where(
        luminance > (6 / 29) ** 3, 116 * np.cbrt(luminance) - 16, luminance * (29 / 3) ** 3
    )


def seen(colours, sight):
    """Lightness of sRGB colours (n, 3) in [0, 255] for these eyes."""
    encoded = np.asarray(colours) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return lightness(linear @ np.transpose(SEEN_BY[sight]))


def ramp_and_alpha(stops):
    colours = [[int(stop.colour[start : start + 2], 16) for start in (1, 3, 5)] for stop in stops]
    return np.array(colours), np.array([[stop.alpha] for stop in stops])


@pytest.mark.parametrize("sight", SEEN_BY)
def test_more_evidence_is_lighter_whatever_colours_one_sees(sight):
    """Tenths of the scale are told apart by their lightness alone: 2.3 is just noticeable."""
    colours, _ = ramp_and_alpha(legend(11))
    assert np.diff(seen(colours, sight)).min() > 2.3


@pytest.mark.parametrize("sight", SEEN_BY)
def test_the_legend_grows_lighter_on_its_ground_too(sight):
    css = (asset("templates") / "style.css").read_text(encoding="utf-8")
    ground = int(re.search(r"\.legend-film { fill: #(\w\w)", css)[1], 16)
    colours, alpha = ramp_and_alpha(legend(11))
    alpha = alpha * OPACITY
    steps = np.diff(seen(ground * (1 - alpha) + colours * alpha, sight))
    assert steps.min() > 0


def test_a_heat_map_is_small():
    assert len(heat_png(np.random.default_rng(1).normal(0, 3, (7, 7)).astype("f4"), SCALE)) < 90_000


def test_blend_keeps_the_films_shape_and_leaves_it_grey_without_evidence():
    grey = np.full((60, 90), 120, np.uint8)
    _, jpeg = cv2.imencode(".png", grey)
    for picture in (grey, jpeg.tobytes()):
        blended = blend(picture, np.zeros((7, 7), np.float32), SCALE, 1.0)
        colour = cv2.imdecode(np.frombuffer(blended, np.uint8), cv2.IMREAD_COLOR)
        assert colour.shape == (60, 90, 3)
        assert np.abs(colour.astype(int) - 120).max() <= 2


def test_blend_puts_the_colour_over_the_hot_cell_of_a_film_that_is_not_square():
    blended = blend(np.zeros((70, 140), np.uint8), grid(c16=6), SCALE, 1.0)
    colour = cv2.imdecode(np.frombuffer(blended, np.uint8), cv2.IMREAD_COLOR)
    row, column = np.unravel_index(colour.sum(axis=2).argmax(), (70, 140))
    assert 10 <= row < 20
    assert column >= 120


def test_opacity_zero_shows_the_film_alone():
    blended = blend(np.full((30, 30), 80, np.uint8), grid(c33=6), SCALE, 0)
    colour = cv2.imdecode(np.frombuffer(blended, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(colour.astype(int) - 80).max() <= 2


@pytest.mark.parametrize(
    ("evidence", "scale"),
    [
        (np.zeros((7, 7), np.float32), 0),
        (np.zeros((7, 7), np.float32), float("nan")),
        (np.full((7, 7), np.nan, np.float32), SCALE),
        (np.zeros(7, np.float32), SCALE),
        (np.zeros((0, 7), np.float32), SCALE),
    ],
)
def test_what_cannot_be_drawn_is_an_error_and_not_an_empty_map(evidence, scale):
    with pytest.raises(ValueError, match=r"evidence|scale"):
        heat_png(evidence, scale)


def test_a_broken_picture_and_a_wrong_opacity_are_errors():
    with pytest.raises(ValueError, match="cannot be decoded"):
        blend(b"no picture", grid(), SCALE, 0.5)
    with pytest.raises(ValueError, match="opacity is 2"):
        blend(np.zeros((9, 9), np.uint8), grid(), SCALE, 2)


def test_peak_is_the_hottest_cell_even_below_zero():
    assert peak(np.full((7, 7), -2, np.float32)) == -2
