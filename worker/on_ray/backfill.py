"""Backfill by the actors of a cluster: list the archives, watch the database, end when all is done.

Results do not pass through here: actors write and commit them. When driver, head or nodes die,
the same command goes on with what the database says is left.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Config
from worker.errors import ConfigError, ScreenError, UsageError
from worker.filesystem import open_film
from worker.intake.archive import Archive, Folder, archive_files
from worker.intake.objects import Objects
from worker.lister import Lister
from worker.on_ray.attach import head_watch
from worker.on_ray.crew import Crew
from worker.on_ray.node import Ground, Seen
from worker.on_ray.screening import Task
from worker.patience import until_it_works
from worker.store.archives import Listing
from worker.store.counts import counts_by_decision
from worker.store.left import is_left

_LOOK_EVERY_S = 1.0
_COUNTING_SHARE = 20  # of the time at the most one part in so many goes into counting
_FILMS_TRIED = 100  # as the one by which nodes know an archive

Tell = Callable[[Mapping[str, int], int, int], None]


def require_cluster_site(config: Config) -> None:
    """Raise UsageError or ConfigError for a site that several hosts cannot share."""
    if config.database.is_file:
        raise UsageError(
            "--engine ray needs PostgreSQL: several hosts write results at the same time, and a "
            "SQLite file serves one ([database] url, docs/DATABASE.md)"
        )
    if config.model.device.startswith("cuda:"):
        raise ConfigError(
            f"model.device = '{config.model.device}' names a GPU of one machine: on a cluster use "
            "'auto', 'cuda' or 'cpu'"
        )


@contextmanager
def hired(config: Config, archives: Sequence[Archive]) -> Iterator[Crew]:
    """Actors for a site and its archives; told to stop at the end. Raises as `Crew` does."""
    seen = [_seen(each.given) for each in archives if isinstance(each, Folder)]
    ground = Ground.of(config, seen, [each for each in archives if isinstance(each, Objects)])
    model = config.model
    crew = Crew(ground, use_gpus=model.device != "cpu" and model.engine == "torch")
    try:
        yield crew
    finally:
        crew.stop()


def _seen(given: Path) -> Seen:
    """The archive by the first of its films that can be read."""
    for found in islice(archive_files(given, lambda _error: None), _FILMS_TRIED):
        with suppress(ScreenError, OSError), open_film(found.path, found.size):
            return Seen(given.resolve(), found.path, found.size)
    return Seen(given.resolve(), None, 0)


@dataclass(frozen=True)
class Backfill:
    """One backfill. `tell(counts, passed, files)` is told what the database says, now and then.

    `counts` of this run by decision, `passed` files that were finished before, `files` known of.
    """

    engine: Engine
    crew: Crew
    archives: Sequence[Archive]
    task: Task
    batch_size: int
    limit: int | None
    rescan: bool
    tell: Tell
    on_error: Callable[[OSError], None]
    on_resume: Callable[[Listing], None]

    def run(self) -> None:
        """Until all is finished, or as many files as the limit says.

        Waits for database and archives when they refuse. Raises ClusterLost, or what ended the
        last of the actors.
        """
        until_it_works(self._go_on, threading.Event())

    def _go_on(self) -> None:
        lister = Lister(
            self.engine,
            self.archives,
            run_id=self.task.run_id,
            model_id=self.task.model_id,
            rescan=self.rescan,
            on_error=self.on_error,
            on_resume=self.on_resume,
        )
        require_head = head_watch()
        mine = (self.task.sources, self.task.model_id)
        with lister:
            while True:
                is_whole = lister.state(len(self.archives) - 1) == "whole"  # before asking
                self.crew.take_answers()  # before counting: their films are among the finished
                began = time.monotonic()
                counts = counts_by_decision(self.engine, self.task.run_id)
                finished = sum(counts.values())
                lister.taken = finished
                self.tell(counts, lister.passed, lister.files)
                if finished >= (self.limit or math.inf) or (
                    is_whole and not is_left(self.engine, *mine)
                ):
                    return
                counted_s = time.monotonic() - began
                self.crew.keep_at_work(self.task, partial(self._quota, finished))
                require_head()
                time.sleep(max(_LOOK_EVERY_S, _COUNTING_SHARE * counted_s))

    def _quota(self, finished: int, given: int) -> int | None:
        """How many films an actor may take now; `None` for as many as there are."""
        if self.limit is None:
            return None
        each = max(self.batch_size, self.limit // (2 * self.crew.size))
        return max(0, min(each, self.limit - finished - given))
