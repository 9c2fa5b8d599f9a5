"""No fault of workers, connections or the server loses a film, or answers one twice.

`make siege` does it with a thousand faults.
"""

import random

import pytest

from tests.cluster.siege import Siege
from tests.postgres import running_server


@pytest.fixture
def own_server():
    """A server that may be started again without harm to other tests."""
    with running_server() as server:
        yield server


@pytest.fixture
def siege(own_server, tmp_path):
    with own_server.database() as url:
        yield Siege(tmp_path, own_server, url, random.Random(9))


@pytest.mark.slow
def test_eight_workers_survive_what_befalls_them(siege):
    assert siege.hold(faults=120, films=150, most_s=150) == []
