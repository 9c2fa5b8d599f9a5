"""Films are brought to the model's shape and to the report's, whatever their own."""

import cv2
import numpy as np
import pytest

from tests.imaging.conftest import chest_like
from worker.errors import CorruptFile
from worker.imaging import prepare


def test_a_film_of_the_models_shape_is_left_as_it_is():
    film = np.random.default_rng(1).random((224, 224), dtype=np.float32)
    np.testing.assert_array_equal(prepare.square(film, 224), film)


def test_a_film_of_any_shape_becomes_square():
    film = np.linspace(0, 1, 300 * 500, dtype=np.float32).reshape(300, 500)
    assert prepare.square(film, 64).shape == (64, 64)
    assert prepare.model_input(film, 64, 1, 99).min() == 0


def test_a_film_without_contrast_is_all_zero():
    assert not prepare.stretch(np.full((8, 8), 0.7, np.float32), 1, 99).any()


@pytest.mark.parametrize(
    ("shape", "shown"), [((300, 200), (300, 200)), ((1000, 500), (512, 256)), ((1, 9000), (1, 512))]
)
def test_a_picture_is_no_longer_than_asked_and_keeps_its_shape(shape, shown):
    picture = prepare.display_picture(np.full(shape, 0.5, np.float32), 512, 85)
    levels = cv2.imdecode(np.frombuffer(picture, np.uint8), -1)
    assert levels.shape == shown
    assert np.abs(levels.astype(int) - 128).max() <= 1


def test_a_picture_that_cannot_be_encoded_is_corrupt(monkeypatch):
    monkeypatch.setattr(prepare.cv2, "imencode", lambda *_: (False, None))
    with pytest.raises(CorruptFile, match=r"\(4, 4\)"):
        prepare.encode_picture(np.zeros((4, 4), np.uint8), 85)


def fine_lines(columns):
    """Lines two pixels apart, the finest there are: what a grid of lead leaves in a film."""
    return np.tile(np.array([27, 227], np.uint8), (400, columns // 2))


@pytest.mark.parametrize("factor", [1.2, 1.5, 1.75, 2, 3, 4.5])
def test_fine_lines_give_little_moire_in_the_picture(factor):
    film = fine_lines(int(512 * factor) // 2 * 2)
    interpolated = cv2.resize(film, (512, round(400 / factor)), interpolation=cv2.INTER_LINEAR)
    shown = prepare.display_levels(film, 512)
    assert shown[50].std() <= max(0.9 * interpolated[50].std(), 1)
    if factor >= 1.75:
        assert shown[50].std() < 20


def test_halving_keeps_the_last_line_of_an_odd_side():
    film = np.array([[0, 100, 200], [100, 0, 50], [10, 30, 60]], np.uint8)
    np.testing.assert_array_equal(prepare.halve(film), [[50, 125], [20, 60]])
    halved = prepare.halve(film.astype(np.float32))
    np.testing.assert_array_equal(halved, np.array([[50, 125], [20, 60]], np.float32))


@pytest.mark.parametrize("shape", [(224, 224), (300, 500), (1301, 1707), (2305, 2553)])
def test_8_bits_and_floats_are_prepared_alike(shape):
    film = np.asarray(cv2.resize(chest_like(), shape[::-1]) * 255, np.uint8)
    grey = film.astype(np.float32) / 255
    expected = prepare.model_input(grey, 224, 1, 99)
    assert np.abs(prepare.model_input(film, 224, 1, 99) - expected).max() < 1 / 255
    pictures = (prepare.display_levels(pixels, 1024).astype(int) for pixels in (film, grey))
    assert np.abs(np.subtract(*pictures)).max() <= 2  # rounded after each halving, or once


def test_a_film_and_its_half_give_the_same_input():
    film = np.asarray(cv2.resize(chest_like(), (2553, 2305)) * 255, np.uint8)
    half = prepare.halve(film)
    whole_film, half_film = (
        prepare.model_input(pixels, 224, 1, 99, film.shape) for pixels in (film, half)
    )
    np.testing.assert_array_equal(half_film, whole_film)


def test_percentiles_are_those_of_numpy():
    film = np.random.default_rng(2).random((37, 41), dtype=np.float32)
    low, high = np.percentile(film, (1, 98.7))
    expected = np.clip((film - low) / (high - low), 0, 1)
    np.testing.assert_allclose(prepare.stretch(film, 1, 98.7), expected, atol=1e-6)
    np.testing.assert_allclose(prepare.stretch(film, 0, 100).max(), 1)
