"""A database on a real server, which several workers share."""

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from worker.config import Database
from worker.intake.found import INBOX, Found
from worker.store.database import open_database
from worker.store.leases import Holder, lease
from worker.store.work import begin_run, record, register_model
from worker.store.workers import register_worker

MARK = "ab" * 16


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


@pytest.fixture
def model_id(server, card, noon):
    return register_model(server, card, "prepare-1", noon)


@pytest.fixture
def new_holder(server, model_id, noon):
    def make(lease_s=60.0, model=None, kind="watch"):
        worker = register_worker(server, "host", 7)
        run = begin_run(
            server,
            kind=kind,
            source="inbox",
            model_id=model or model_id,
            device="cpu",
            precision="float32",
            now=noon,
            worker_id=worker,
        )
        return Holder(worker, run, model or model_id, lease_s)

    return make


def eventually(true, most_s=10.0):
    """Whether it becomes true soon: the server needs a moment to see that a connection ended."""
    deadline = time.monotonic() + most_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def films_of(server, *columns):
    """These columns of all files, in order."""
    with server.connect() as connection:
        rows = connection.execute(text(f"SELECT {', '.join(columns)} FROM files ORDER BY id"))
        return [tuple(row) for row in rows]


def feed(server, holder, noon, count, source=INBOX, mark=MARK):
    """Record some files; those of the inbox lie in work/."""
    found = [
        Found(source, f"{i}.jpg", Path(f"/work/{i}/{i}.jpg"), 7, 7, str(i) if mark else "")
        for i in range(count)
    ]
    return record(server, found, holder.run_id, holder.model_id, noon, site_mark=mark)


def leased_by(server, holder, noon, count):
    """Some films of the inbox, leased."""
    feed(server, holder, noon, count)
    return lease(server, holder, INBOX, limit=count, site_mark=MARK)
