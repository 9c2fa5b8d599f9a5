"""Predict films as they come from their decoders, so that no core waits for another's work.

On a CPU as many threads predict as there are cores, each with one core and few films: a pass that
is divided among cores waits for the slowest of them, and decoders need these cores too. A GPU has
one thread, which takes all films that are there.
"""

import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from worker.records import Prediction

_LINGER_S = 0.05  # for which a film may wait for others: a pass of few films wastes time

_Job = tuple[NDArray[np.float32], "Future[Prediction]", float]  # film, its future, when it came


class Predicts(Protocol):
    """What predicts: `worker.inference.engine.Engine`, or an exported file in its own runtime.

    `device`, `place` and `precision` say where and how, `note` what had to be done, for people.
    `threads` may ask at once, `at_once` films go in one pass, `None` for as many as there are.
    """

    note: str | None
    precision: str

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    @property
    def place(self) -> str:
        """Where it runs, for people."""

    @property
    def threads(self) -> int:
        """Threads that may predict at once."""

    @property
    def at_once(self) -> int | None:
        """Films in one pass."""

    def predict(self, inputs: NDArray[np.float32]) -> list[Prediction]:
        """Predict N prepared films, float32 (N, S, S) in [0, 1], in order."""


class Predictor:
    """Threads that run an engine. `at_once` films go through a GPU in one pass, at the most.

    A film's future raises what the engine raises, as do those of the films of the same pass.
    """

    def __init__(self, engine: Predicts, at_once: int) -> None:
        self._engine, self._at_once = engine, at_once
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"predictor-{number}", daemon=True)
            for number in range(engine.threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, film: NDArray[np.float32]) -> "Future[Prediction]":
        """Queue one prepared film, float32 (S, S) in [0, 1]; cancelled once this is closed."""
        future: Future[Prediction] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            self._jobs.append((film, future, time.monotonic()))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel the films that wait, and end the threads after the pass in hand."""
        with self._changed:
            self._closed = True
            waiting, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for _, future, _ in waiting:
            future.cancel()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        if self._engine.device.type == "cpu":
            torch.set_num_threads(1)  # here and in threads to come, not in those that are there
        while jobs := self._next():
            running = [job for job in jobs if job[1].set_running_or_notify_cancel()]
            if running:
                self._predict(running)

    def _next(self) -> list[_Job]:
        """As many films as go at once, fewer if no others come soon; none when this is closed."""
        with self._changed:
            count = self._engine.at_once or self._at_once
            while not self._closed and len(self._jobs) < count:
                since_s = time.monotonic() - self._jobs[0][2] if self._jobs else 0.0
                if since_s >= _LINGER_S:
                    break
                self._changed.wait(_LINGER_S - since_s if self._jobs else None)
            return [self._jobs.popleft() for _ in range(min(count, len(self._jobs)))]

    def _predict(self, jobs: list[_Job]) -> None:
        try:
            predictions = self._engine.predict(np.stack([film for film, *_ in jobs]))
        except BaseException as error:  # the futures carry it to whoever waits
            for _, future, _ in jobs:
                future.set_exception(error)
            return
        for (_, future, _), prediction in zip(jobs, predictions, strict=True):
            future.set_result(prediction)
