"""Films are brought to the model's shape and to the report's, whatever their own."""

import cv2
import numpy as np
import pytest

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
