"""A site with a worker that answers without a network, and ways to kill it anywhere."""

import contextlib
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from worker.daemon import Daemon
from worker.pipeline import Pipeline
from worker.site import hold_site
from worker.store.work import begin_run, end_run, register_model


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
            model_id = register_model(engine, self.screener.card, "1", self.now)
            run_id = begin_run(
                engine,
                kind="watch",
                source="inbox",
                model_id=model_id,
                device="cpu",
                precision="float32",
                now=self.now,
            )
            numbers = {"run_id": run_id, "model_id": model_id}

            def pipeline(shelves):
                return Pipeline(
                    engine,
                    self.screener,
                    self.config,
                    **numbers,
                    name_for=shelves.name_for,
                    clock=lambda: self.now,
                )

            seconds = iter(range(10**9))
            daemon = Daemon(
                engine,
                self.config,
                pipeline,
                **numbers,
                now=lambda: float(next(seconds)),
                clock=lambda: self.now,
            )
            daemon.recover()
            for _ in range(4):
                daemon.turn()
            daemon.finish_up()
            end_run(engine, run_id, self.now)

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


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing catches it and nothing is tidied up."""


@contextlib.contextmanager
def killed_at(name, *, call=1, after=False):
    """The process dies when it reaches (or has done) this step the `call`-th time."""
    module, _, attribute = name.rpartition(".")
    owner = sys.modules[module]
    real, calls, died = getattr(owner, attribute), [], False

    def die(*arguments, **named):
        calls.append(1)
        if len(calls) < call:
            return real(*arguments, **named)
        if after:
            real(*arguments, **named)
        raise Killed

    with pytest.MonkeyPatch.context() as death:
        death.setattr(owner, attribute, die)
        try:
            yield
        except Killed:
            died = True
    assert died, f"the process never came to {name} ({call})"


@pytest.fixture(name="killed_at")
def give_killed_at():
    return killed_at


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
