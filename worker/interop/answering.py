"""Make answers while the daemon screens, in a thread that leaves most of its core to screening."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Config
from worker.interop.answerer import Answerer, Done, remove_half_written
from worker.patience import TROUBLES, cause
from worker.store.counts import waiting_files_count

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_LAST_ANSWER_S = 10.0  # for the answer in hand when the daemon ends
_SHARE = 0.1  # of the time goes into answers while films wait to be screened


@contextmanager
def answering(
    engine: Engine,
    config: Config,
    check: Callable[[], None],
    is_ours: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Answers are made beside what is done within, if this site, which we hold, wants any.

    Where several workers hold it, `is_ours` says whether it is this one that makes them.
    """
    if not config.dicom.results:
        yield
        return
    stop = threading.Event()
    whole = (Answerer(engine, config, check), engine, config.dicom.answers, stop, is_ours)
    thread = threading.Thread(target=_answer, args=whole, name="answers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_LAST_ANSWER_S)  # a share that hangs does not hold up the end


def answer_all(engine: Engine, config: Config, check: Callable[[], None]) -> None:
    """Make all that is due, if this site, which we hold, wants answers; log what was in the way.

    Never raises: what was screened before stands, whatever becomes of its answers.
    """
    if config.dicom.results:
        with _logged():
            remove_half_written(config.dicom.answers)
        with _logged(), closing(Answerer(engine, config, check)) as answerer:
            _log(answerer.work_off())


def _answer(
    answerer: Answerer,
    engine: Engine,
    answers: Path,
    stop: threading.Event,
    is_ours: Callable[[], bool],
) -> None:
    with _logged():
        remove_half_written(answers)
    with _logged(), closing(answerer):
        while not stop.wait(_LOOK_EVERY_S):
            with _logged():
                if not is_ours():
                    continue
                _log(answerer.work_off(stop, _Rest(engine)))


@contextmanager
def _logged() -> Iterator[None]:
    """Whatever goes wrong with answers is logged, and what is still due is tried again later."""
    try:
        yield
    except TROUBLES as error:
        log.error("answers paused: %s", cause(error))
    except Exception:
        log.exception("making answers failed")


def _log(done: Done) -> None:
    if done.trouble:
        log.error("answers paused: %s", done.trouble)
    if count := done.counts["impossible"]:
        log.warning("answers are impossible: see 'screen answer'", extra={"count": count})


class _Rest:
    """How long to rest after each batch, by how long it took and whether films wait."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._since = engine, time.monotonic()

    def __call__(self) -> float:
        took = time.monotonic() - self._since
        busy = waiting_files_count(self._engine, inbox=True) > 0
        rest = took * (1 / _SHARE - 1) if busy else 0.0
        self._since = time.monotonic() + rest
        return rest
