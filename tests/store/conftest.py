"""A migrated database, and a way to put films into it."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worker.config import Database
from worker.errors import TruncatedFile
from worker.intake.found import INBOX, Found
from worker.records import Decision, PreparedFilm, Record, Tags
from worker.store.database import open_database, upgrade
from worker.store.outcomes import Duplicate, Failed, Screened, finish
from worker.store.work import begin_run, record, register_model


@pytest.fixture
def settings(database_url):
    return Database(url=database_url, busy_timeout_s=0.2)


@pytest.fixture
def engine(settings):
    engine = open_database(settings, create=True)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def model_id(engine, card, noon):
    return register_model(engine, card, "1/square96", noon)


@pytest.fixture
def start_run(engine, model_id, noon):
    """Begin a run; keywords replace its values."""

    def start(**changes):
        values = {"kind": "watch", "source": "inbox", "device": "cpu", "precision": "float32"}
        return begin_run(engine, **{**values, "model_id": model_id, "now": noon, **changes})

    return start


@pytest.fixture
def run_id(start_run):
    return start_run()


def found(name, source=INBOX, **changes):
    """A file that came in; those of the inbox have a claim of their own."""
    claim = f"claim-of-{name}" if source == INBOX else ""
    path = f"/site/work/{claim}/{name}" if source == INBOX else f"{source}/{name}"
    return replace(Found(source, name, Path(path), 5, 7, claim), **changes)


@pytest.fixture(name="found")
def make_found():
    return found


class Shop:
    """Records files and brings them to an end."""

    def __init__(self, engine, card, run_id, model_id, noon):
        self.engine, self.card, self.noon = engine, card, noon
        self.run_id, self.model_id = run_id, model_id
        self._names = (f"{number}.jpg" for number in itertools.count())

    def item(self, name=None, source=INBOX):
        (item,) = self.items(found(name or next(self._names), source))
        return item

    def items(self, *files):
        return record(self.engine, files, self.run_id, self.model_id, self.noon)

    def screened(self, item, sha256="aa" * 32, **changes):
        """An answer for a file; keywords replace values of its record."""
        says = Record(
            file=item.found.file,
            sha256=sha256,
            decision=Decision.PNEUMONIA,
            probability=0.9,
            threshold=0.6,
            guard_score=0.25,
            guard_threshold=0.5,
            reason=None,
            message="The score lies above the threshold.",
            model=self.card.name,
            weights_sha256=self.card.weights.sha256,
        )
        tags = Tags(modality="DX", patient_age_years=3.0)
        film = PreparedFilm(
            sha256, np.zeros((2, 2), np.float32), b"jpeg", "DICOM", 20, 30, tags, ("a note",), None
        )
        evidence = np.arange(6, dtype=np.float32).reshape(2, 3)
        page, picture = f"films/{sha256[:4]}.html", f"pictures/{sha256[:4]}.jpg"
        return Screened(
            item, replace(says, **changes), film, evidence, page, picture, item.found.file
        )

    def duplicate(self, item, sha256="aa" * 32):
        return Duplicate(item, sha256, item.found.file)

    def failed(self, item, sha256=None):
        return Failed(item, sha256, TruncatedFile("ends early"), item.found.file)

    def finish(self, *outcomes, now=None):
        finish(
            self.engine,
            outcomes,
            run_id=self.run_id,
            model_id=self.model_id,
            now=now or self.noon,
        )


@pytest.fixture
def shop(engine, card, run_id, model_id, noon):
    return Shop(engine, card, run_id, model_id, noon)
