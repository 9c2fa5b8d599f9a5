"""Do a step again until disk, share, database and decoders let it pass. No film is blamed."""

import logging
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from worker.errors import DecoderUnavailable, ShareGone, StoreError

log = logging.getLogger(__name__)

Trouble = OSError | StoreError | DecoderUnavailable | ShareGone
TROUBLES = (OSError, StoreError, DecoderUnavailable, ShareGone)  # they speak of no film

_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # between attempts
_Result = TypeVar("_Result")


def until_it_works(
    step: Callable[[], _Result],
    stop: threading.Event,
    on_pause: Callable[[str], None] = lambda _cause: None,
) -> _Result | None:
    """The step's result, at whichever attempt; `None` when `stop` was set first.

    What the step had not committed is done again. `on_pause` is told each cause.
    """
    attempt = 0
    while True:
        try:
            return step()
        except TROUBLES as error:
            pause_s = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            on_pause(cause(error))
            log.error("intake paused: %s", cause(error), extra={"wait_s": pause_s})
            attempt += 1
            if stop.wait(pause_s):
                return None


def cause(error: Trouble) -> str:
    """What refused, without names of files."""
    return os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
