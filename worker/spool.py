"""Objects of object stores on their way through the pipeline: fetched ahead into small files.

They lie on this machine's own disk, closed to everybody else, until their batch is committed; what
a kill leaves goes when the next spool is opened.
"""

import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from worker.config import Config
from worker.errors import FilmError, TooLarge
from worker.filesystem import TEMPORARY
from worker.intake.objects import blame, fetch, may_pass
from worker.scratch import scratch
from worker.store.work import Item

log = logging.getLogger(__name__)

_AT_ONCE = 16  # objects: a store answers slowly, and many at a time
_AHEAD = 48  # objects fetched, or being fetched, that no batch has yet
_MOST_BYTES = 2 << 30  # of all that lie here; beyond, one comes at a time
_ALIVE_EVERY_S = 1.0
_COMES_WITHIN_S = 300.0  # an object, pauses included; a worker that waits longer hangs
_PAUSES_S = (1.0, 5.0, 20.0, 60.0)  # between attempts, when a store fails or slows us down

Fetch = Callable[[str, Path, str], None]


@contextmanager
def spooling(config: Config) -> "Iterator[Spool]":
    """A spool beside this machine's state, gone at the end."""
    with (
        scratch(config.local_state.parent) as folder,
        closing(Spool(folder, config.decode.max_file_mb << 20)) as spool,
    ):
        yield spool


class Spool:
    """Fetches objects ahead, in threads, into a folder. Close it to remove all that is here."""

    def __init__(self, folder: Path, max_bytes: int, fetch: Fetch = fetch) -> None:
        self.folder, self._max_bytes, self._fetch = folder, max_bytes, fetch
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="spool")
        self._stop = threading.Event()
        self._here: dict[int, tuple[Path, int]] = {}  # item → its file, the size it was listed with

    def close(self) -> None:
        """End the fetching and remove what was fetched."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for path, _ in self._here.values():
            path.unlink(missing_ok=True)
        self._here.clear()

    def ready(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in their order, each once its bytes are here or will not come.

        Raises OSError when the store goes on failing after some pauses, and does not list either.
        """
        waiting: deque[tuple[Item, Future[None] | None]] = deque()
        for item in items:
            waiting.append(self._begin(item))
            while waiting and (len(waiting) >= _AHEAD or self._held > _MOST_BYTES):
                yield self._ended(*waiting.popleft())
        while waiting:
            yield self._ended(*waiting.popleft())

    def portions(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """The items in their order, in parts of which no more than a spool should hold."""
        part: list[Item] = []
        for item in items:
            if part and sum(each.found.size for each in (*part, item)) > _MOST_BYTES:
                yield part
                part = []
            part.append(item)
        if part:
            yield part

    def all_ready(self, items: Sequence[Item], alive: Callable[[], None]) -> list[Item]:
        """The items, once the bytes of all are here or will not come. Raises as `ready`.

        `alive` is called meanwhile, once a second, as long as objects come now and then; what it
        raises ends the waiting.
        """
        begun = [self._begin(item) for item in items]
        pending = {fetched for _, fetched in begun if fetched is not None}
        came_at = time.monotonic()
        while pending:
            if time.monotonic() - came_at < _COMES_WITHIN_S:
                alive()
            done, pending = wait(pending, _ALIVE_EVERY_S, FIRST_COMPLETED)
            came_at = time.monotonic() if done else came_at
        return [self._ended(*each) for each in begun]

    def release(self, items: Sequence[Item]) -> None:
        """Remove what lies here of items that came to their end."""
        for item in items:
            path, _ = self._here.pop(item.id, (None, 0))
            if path is not None:
                path.unlink(missing_ok=True)

    @property
    def _held(self) -> int:
        return sum(size for _, size in self._here.values())

    def _begin(self, item: Item) -> tuple[Item, Future[None] | None]:
        if not item.found.url:
            return item, None
        if item.found.size > self._max_bytes:
            limit = f"{self._max_bytes >> 20} MiB ([decode] max_file_mb)"
            return replace(item, refused=TooLarge(f"the object is larger than {limit}")), None
        path = temporary(self.folder)
        self._here[item.id] = (path, item.found.size)
        here = replace(item, found=replace(item.found, path=path))
        return here, self._pool.submit(self._fetched, here, path)

    def _fetched(self, item: Item, path: Path) -> None:
        for pause_s in (*_PAUSES_S, None):
            try:
                self._fetch(item.found.url, path, item.found.source)
            except OSError as error:
                if not may_pass(error) or self._stop.is_set():
                    raise
                if pause_s is None:
                    raise blame(error, item.found.source) from error
                log.warning("the object store failed, it is asked again: %s", error.strerror)
                self._stop.wait(pause_s)
            else:
                return

    def _ended(self, item: Item, fetched: Future[None] | None) -> Item:
        try:
            if fetched is not None:
                fetched.result()
        except FilmError as error:
            self.release([item])
            return replace(item, refused=error)
        return item


def temporary(folder: Path) -> Path:
    """A new empty file that nobody else may read, removed at a start if it is left."""
    descriptor, name = tempfile.mkstemp(TEMPORARY[1], TEMPORARY[0], folder)
    with open(descriptor, "wb"):  # noqa: PTH123 — to close it
        return Path(name)


@contextmanager
def fetched(folder: Path, url: str, source: str) -> Iterator[Path]:
    """One object's bytes, for as long as they are needed. Raises as `objects.fetch` does."""
    path = temporary(folder)
    try:
        fetch(url, path, source)
        yield path
    finally:
        path.unlink(missing_ok=True)
