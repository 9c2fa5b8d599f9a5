"""A site with results, and its reading room: in this process, or as a real server."""

import shutil
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

from tests.conftest import NOON
from tests.operators.conftest import Desk
from tests.standin import StandInScreener, make_card
from worker.config import load_config
from worker.site import init_site
from worker.web.app import reading_room

TOKEN = "a-token-of-thirty-characters-x"
HERE = "http://127.0.0.1:8080"


class WebDesk(Desk):
    """A desk whose worker takes up everything."""

    def work_all(self):
        for _ in range(10):
            if not self.names("inbox"):
                return
            self.work()
        raise AssertionError(f"the worker leaves alone {self.names('inbox')}")


def configure(config, **sections):
    """The site's configuration with these keys added: `serve={"uploads_per_minute": 3}`."""
    file = config.root / "config.toml"
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value!r}".replace("'", '"') for key, value in values.items()]
    file.write_text(file.read_text() + "\n".join(lines) + "\n")
    return load_config(file)


@pytest.fixture(scope="session")
def empty_site(tmp_path_factory):
    """A new site, to be copied: that is quicker than to make one."""
    config, _ = init_site(tmp_path_factory.mktemp("web") / "site")
    quick = "[watch]\nsettle_s = 0\n[batch]\nsize = 4\nmax_age_s = 0\n"
    (config.root / "config.toml").write_text(quick)
    return config.root


@pytest.fixture(scope="module")
def new_desk(empty_site, tmp_path_factory):
    """Make a site with a worker to be called."""

    def make():
        root = tmp_path_factory.mktemp("desk") / "site"
        shutil.copytree(empty_site, root)
        return WebDesk(load_config(root / "config.toml"), StandInScreener(make_card()), NOON)

    return make


@pytest.fixture
def desk(new_desk, database_kind, database_url):
    """A site of its own, with a database of the test's kind."""
    desk = new_desk()
    if database_kind == "postgresql":
        desk.config.database.file.unlink()
        desk.config = configure(desk.config, database={"url": database_url})
    return desk


@pytest.fixture(scope="module")
def open_room():
    """Open a site's reading room to a client on this machine."""
    with ExitStack() as closing:

        def open_it(config, token=None, **options):
            app = reading_room(config, token, **options)
            client = TestClient(app, HERE, raise_server_exceptions=False, follow_redirects=False)
            return closing.enter_context(client)

        yield open_it


@pytest.fixture
def room(desk, open_room):
    """The reading room of a site of its own, without a token."""
    return open_room(desk.config)


@pytest.fixture(scope="module")
def shared_room(new_desk, open_room):
    """The reading room of a site that nothing is sent to."""
    return open_room(new_desk().config)
