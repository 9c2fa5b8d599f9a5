"""A site with its daemon and a stand-in screener, that tests may kill and start again."""

import contextlib
import sys

from sqlalchemy import text

from worker.daemon import Daemon
from worker.marks import require_this_site
from worker.pipeline import Pipeline
from worker.store.work import begin_recovery, begin_run, register_model


class Clock:
    """Monotonic seconds that pass only when a test says so."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Pulse:
    """Remembers what it was told."""

    def __init__(self):
        self.beats = []

    def beat(self, state, *, cause=None, finished=0):
        self.beats.append((state, cause, finished))


class Ward:
    """A site with its daemon; `restart` is what a new process would do."""

    def __init__(self, config, engine, screener, noon):
        self.config, self.engine, self.screener, self.noon = config, engine, screener, noon
        self.clock, self.pulse = Clock(), Pulse()
        self.inbox, self.work = config.site.inbox, config.site.work
        self.restart()

    def restart(self, *, crashed=False):
        begin_recovery(self.engine, crashed=crashed)
        model_id = register_model(self.engine, self.screener.card, "1", self.noon)
        self.run_id = begin_run(
            self.engine,
            kind="watch",
            source="inbox",
            model_id=model_id,
            device="cpu",
            precision="float32",
            now=self.noon,
        )
        check = require_this_site(self.config.site, self.engine)
        self.daemon = Daemon(
            self.engine,
            self.config,
            lambda shelves: Pipeline(
                self.engine,
                self.screener,
                self.config,
                run_id=self.run_id,
                model_id=model_id,
                check=check,
                name_for=shelves.name_for,
                clock=lambda: self.noon,
            ),
            run_id=self.run_id,
            model_id=model_id,
            check=check,
            pulse=self.pulse,
            now=self.clock,
            clock=lambda: self.noon,
        )

    def drop(self, **films):
        for name, content in films.items():
            (self.inbox / f"{name}.jpg").write_bytes(content)

    def turns(self, count=3, seconds=1.0):
        """Some turns of the daemon, time passing between them; the last look."""
        for _ in range(count):
            look = self.daemon.turn()
            self.clock.seconds += seconds
        return look

    def states(self):
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT file, state FROM files ORDER BY id"))
            return {row.file.removesuffix(".jpg"): row.state for row in rows}

    def column(self, sql):
        with self.engine.connect() as connection:
            return [row[0] for row in connection.execute(text(sql))]

    def claims(self):
        return [path for path in self.work.iterdir() if path.is_dir()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing catches it and nothing is tidied up."""


@contextlib.contextmanager
def killed_at(monkeypatch, name, *, call=1, after=False):
    """The worker dies when it reaches (or has done) this step the `call`-th time."""
    module, _, attribute = name.rpartition(".")
    real, left = getattr(sys.modules[module], attribute), [call]

    def die(*arguments, **named):
        left[0] -= 1
        if left[0] > 0:
            return real(*arguments, **named)
        if after:
            real(*arguments, **named)
        raise Killed

    died = False
    with monkeypatch.context() as death:
        death.setattr(name, die)
        try:
            yield
        except Killed:
            died = True
    assert died, f"the worker never came to {name}"
