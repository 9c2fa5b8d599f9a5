"""A site with a worker that answers without a network, and ways to kill it anywhere."""

import contextlib
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.ward import Ward, killed_at
from worker.site import hold_site
from worker.store.work import end_run


class Desk:
    """A site; `work` lets a worker screen what lies in the inbox."""

    def __init__(self, config, screener, noon):
        self.config, self.screener, self.now = config, screener, noon
        self.site = config.site

    def drop(self, **films):
        for name, content in films.items():
            (self.site.inbox / f"{name}.jpg").write_bytes(content)

    def work(self):
        """A worker takes up what is there, screens it, and ends in order."""
        with hold_site(self.config) as engine:
            ward = Ward(self.config, engine, self.screener, self.now)
            ward.daemon.recover()
            ward.turns(4)
            ward.daemon.finish_up()
            end_run(engine, ward.run_id, self.now)

    @contextlib.contextmanager
    def database(self):
        from worker.store.database import open_database

        engine = open_database(self.config.database)
        try:
            yield engine
        finally:
            engine.dispose()

    def rows(self, sql):
        with self.database() as engine, engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def names(self, folder):
        return sorted(path.name for path in getattr(self.site, folder).iterdir())

    def worklist(self):
        return (self.site.reports / "index.html").read_text()


@pytest.fixture
def desk(quick_site, screener, noon):
    return Desk(quick_site, screener, noon)


@pytest.fixture(name="killed_at")
def give_killed_at(monkeypatch):
    """`tests.ward.killed_at`, given its monkeypatch."""
    return partial(killed_at, monkeypatch)


@pytest.fixture
def everywhere():
    """Every content below some folders: content → how often it is there."""

    def count(*folders: Path):
        found = {}
        for path in (p for folder in folders for p in folder.rglob("*") if p.is_file()):
            if path.suffix == ".jpg":
                found[path.read_bytes()] = found.get(path.read_bytes(), 0) + 1
        return found

    return count
