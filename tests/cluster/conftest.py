"""A database on a real server, which several workers share."""

import pytest

from worker.config import Database
from worker.store.database import open_database


@pytest.fixture
def server_url(postgres):
    """URL of a database of today's schema."""
    with postgres.database(migrated=True) as url:
        yield url


@pytest.fixture
def server(server_url):
    """Its engine."""
    engine = open_database(Database(url=server_url))
    yield engine
    engine.dispose()
