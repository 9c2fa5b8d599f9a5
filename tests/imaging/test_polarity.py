"""A negative is found from its pixels; films that are shown as they should be are left alone."""

import cv2
import numpy as np
import pytest

from worker.imaging.decode import decode
from worker.imaging.polarity import chest_likeness, looks_inverted
from worker.records import Reason

# Looked at: the NIH archive itself holds it as a negative.
NIH_NEGATIVE = "00017999_000.jpg"


def _shown(path):
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
    return cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)


def _inverted(films):
    return [path.name for path in films if looks_inverted(_shown(path))]


def _found_negatives(films):
    return np.mean([looks_inverted(1 - _shown(path)) for path in films])


def test_a_negative_answers_the_opposite(chest):
    film = chest.astype(np.float32) / 255
    assert chest_likeness(1 - film) == pytest.approx(
        [-value for value in chest_likeness(film)], abs=1e-4
    )
    assert not looks_inverted(film)
    assert looks_inverted(1 - film)


def test_an_upside_down_negative_is_found_and_an_upside_down_film_is_not(chest):
    turned = np.ascontiguousarray(chest[::-1, ::-1]).astype(np.float32) / 255
    assert looks_inverted(1 - turned)
    assert not looks_inverted(turned)


def test_a_film_without_contrast_is_nothing():
    assert chest_likeness(np.zeros((224, 224), np.float32)) == (0.0, 0.0)


def test_an_inverted_jpeg_is_refused_and_its_pixels_stay(chest):
    film = decode(cv2.imencode(".png", 255 - chest)[1].tobytes())
    assert film.refusal is not None
    assert film.refusal.reason is Reason.POLARITY_UNSURE
    np.testing.assert_array_equal(film.pixels, 255 - chest)


def test_originals_are_left_alone(shared_data):
    assert _inverted(sorted((shared_data / "kermany" / "originals").glob("*/*"))) == []


def test_adult_films_are_left_alone_but_for_a_true_negative(shared_data):
    films = sorted((shared_data / "adult_nih" / "images").iterdir())
    assert _inverted(films) == [NIH_NEGATIVE]
    assert _found_negatives(films) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["train224", "train_native"])
def test_training_films_are_left_alone(shared_data, folder):
    films = sorted((shared_data / "kermany" / folder).glob("*/*"))
    assert _inverted(films) == []
    assert _found_negatives(films) > 0.999
