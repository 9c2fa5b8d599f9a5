"""A site with results, and its reading room: in this process, or as a real server."""

from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

from tests.operators.conftest import Desk
from worker.config import load_config
from worker.web.app import reading_room

TOKEN = "a-token-of-thirty-characters-x"
HERE = "http://127.0.0.1:8080"


def configure(config, **sections):
    """The site's configuration with these keys added: `serve={"uploads_per_minute": 3}`."""
    file = config.root / "config.toml"
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value!r}".replace("'", '"') for key, value in values.items()]
    file.write_text(file.read_text() + "\n".join(lines) + "\n")
    return load_config(file)


@pytest.fixture
def desk(quick_site, screener, noon):
    return Desk(quick_site, screener, noon)


@pytest.fixture
def open_room():
    """Open a site's reading room to a client on this machine."""
    with ExitStack() as closing:

        def open_it(config, token=None, **options):
            app = reading_room(config, token, **options)
            client = TestClient(
                app, HERE, raise_server_exceptions=False, follow_redirects=False
            )
            return closing.enter_context(client)

        yield open_it


@pytest.fixture
def room(desk, open_room):
    """The reading room of a site without a token."""
    return open_room(desk.config)
