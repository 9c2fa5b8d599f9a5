"""Decode films in child processes that may crash, hang or run out of memory without harm."""

import queue
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from worker.errors import DecoderCrashed, DecoderUnavailable, FilmError
from worker.filesystem import open_film
from worker.imaging.attributes import Attributes
from worker.imaging.confine import Isolation
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.process import AskAnother, DecoderProcess
from worker.records import PreparedFilm

_TRIES = 2  # the child at hand, then a new one
ANY_SETTINGS = PrepareSettings(1, 0, 100, 1, 85)  # for a child that prepares no film


@dataclass(frozen=True)
class _Job:
    """One film, and who waits for its picture, or for what it says."""

    path: Path
    future: Future[Any]
    attributes: bool


class DecoderPool:
    """Decoder children, each with a thread that feeds it; safe to use from several threads.

    Children start at once, so that the first film need not wait for libraries to load, and a child
    that has died is replaced when a film comes. A film's future raises FilmError for what is wrong
    with the film, and DecoderUnavailable, which blames no film, when children do not start or the
    pool is closed.
    """

    def __init__(self, prepare: PrepareSettings, limits: DecodeLimits, processes: int) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._feeders = [
            _Feeder(self._jobs, prepare, limits, number) for number in range(max(1, processes))
        ]
        for feeder in self._feeders:
            feeder.start()

    def submit(self, path: Path) -> "Future[PreparedFilm]":
        """Queue one film. Raises DecoderUnavailable when the pool is closed."""
        future: Future[PreparedFilm] = Future()
        self._put(_Job(path, future, attributes=False))
        return future

    def attributes(self, path: Path) -> "Future[Attributes]":
        """Queue a DICOM film of which only attributes are wanted. Raises as `submit` does."""
        future: Future[Attributes] = Future()
        self._put(_Job(path, future, attributes=True))
        return future

    def _put(self, job: _Job) -> None:
        with self._lock:
            if self._closed:
                raise DecoderUnavailable("the decoder pool is closed")
            self._jobs.put(job)

    def pids(self) -> list[int]:
        """Process ids of the children that run now."""
        return [pid for pid in (feeder.pid() for feeder in self._feeders) if pid is not None]

    def close(self) -> None:
        """Stop at once: cancel the films that wait, kill the children, reap them."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _cancel_waiting(self._jobs)
        for feeder in self._feeders:
            self._jobs.put(None)
            feeder.stop()
        for feeder in self._feeders:
            feeder.join()

    def __enter__(self) -> "DecoderPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def isolation(limits: DecodeLimits) -> Isolation:
    """What a decoder process says of its own confinement, here and now.

    Raises DecoderUnavailable when it does not start.
    """
    child = DecoderProcess(ANY_SETTINGS, limits)
    try:
        if child.is_ready() and child.isolation is not None:
            return child.isolation
    finally:
        child.end()
    raise DecoderUnavailable("the decoder processes do not start")


def _cancel_waiting(jobs: "queue.SimpleQueue[_Job | None]") -> None:
    while True:
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            return
        if job is not None:
            job.future.cancel()


class _Feeder(threading.Thread):
    """Takes films from the queue, one at a time, through a child of its own."""

    def __init__(
        self,
        jobs: "queue.SimpleQueue[_Job | None]",
        settings: PrepareSettings,
        limits: DecodeLimits,
        number: int,
    ) -> None:
        super().__init__(name=f"decoder-{number}", daemon=True)
        self._jobs, self._settings, self._limits = jobs, settings, limits
        self._child: DecoderProcess | None = None
        self._lock = threading.Lock()  # between this thread and `stop`
        self._stopped = False

    def pid(self) -> int | None:
        child = self._child
        return child.process.pid if child is not None else None

    def stop(self) -> None:
        """Kill the child in hand, from another thread."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.process.kill()

    def run(self) -> None:
        with suppress(DecoderUnavailable, OSError):  # the first film will be told
            self._ready_child()
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(self._ask(job))
            except BaseException as error:  # the future carries it to whoever waits
                job.future.set_exception(error)
        self._drop()

    def _ask(self, job: _Job) -> PreparedFilm | Attributes:
        doubt: AskAnother | None = None
        with open_film(job.path, self._limits.max_file_bytes) as film:
            for _ in range(_TRIES):
                child = self._ready_child()
                try:
                    if child.ask(film, attributes=job.attributes):
                        return child.attributes(film) if job.attributes else child.answer(film)
                except AskAnother as error:
                    doubt = error
                except FilmError as error:
                    if self._stopped:
                        raise DecoderUnavailable("the decoder pool was closed") from error
                    raise
                finally:
                    if child.is_spent:
                        self._drop()
        if doubt is not None:  # of a new child too: the film itself does it
            raise DecoderCrashed(str(doubt)) from doubt
        raise DecoderUnavailable("the decoder processes die before they are given a film")

    def _ready_child(self) -> DecoderProcess:
        if self._child is not None and self._child.process.poll() is not None:
            self._drop()
        if self._child is None:
            with self._lock:
                if self._stopped:
                    raise DecoderUnavailable("the decoder pool was closed")
                self._child = DecoderProcess(self._settings, self._limits)
            if not self._child.is_ready():
                self._drop()
                raise DecoderUnavailable("the decoder processes do not start: try 'screen doctor'")
        return self._child

    def _drop(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.end()
                self._child = None
