"""Heat maps: one scale for all films."""

import cv2
import numpy as np
import pytest

from worker.report.overlay import blend, heat_png, legend, peak

SCALE = 6.0


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
