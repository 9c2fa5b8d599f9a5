"""Models, films and answers that the tests of all formats share."""

import numpy as np
import pytest

from models.names import shipped_names
from models.registry import find_model, load_model
from worker.export.films import read_films
from worker.export.parity import answers_of
from worker.inference.engine import Engine


@pytest.fixture(scope="session")
def real_films(sample_films):
    """The 16 validation films as the shipped models take them, and each on its side, (N, S, S).

    Of those the guard lets none pass: a guard that an export lost would be seen.
    """
    films = read_films(sample_films, load_model(find_model("default")).card.input)
    return np.concatenate([films, np.rot90(films, axes=(1, 2))])


@pytest.fixture(scope="session", params=shipped_names())
def shipped(request):
    """Each model that comes with the program, loaded."""
    return load_model(find_model(request.param))


@pytest.fixture(scope="session")
def expected(shipped, real_films):
    """What the worker's own engine says of the real films."""
    return answers_of(Engine(shipped, "cpu", "float32"), real_films)
