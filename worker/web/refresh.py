"""Write the worklist again after reviews, some at once, without keeping a reader waiting."""

import logging
import threading

from sqlalchemy import Engine

from worker.config import Site
from worker.errors import ScreenError
from worker.report.site import RESULT_PAGES, write_worklist
from worker.web.room import now

log = logging.getLogger(__name__)

_GATHER_S = 2.0


class Refresher:
    """A thread that writes the worklist some seconds after it was asked to."""

    def __init__(self, site: Site, engine: Engine) -> None:
        self._site, self._engine = site, engine
        self._asked, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresher")

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def ask(self) -> None:
        """The worklist is not true any more."""
        self._asked.set()

    def stop(self) -> None:
        """Write what is still asked for, and end."""
        self._stopping.set()
        self._asked.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.wait()
            if self._stopping.wait(_GATHER_S) and not self._asked.is_set():
                return
            self._asked.clear()
            try:
                write_worklist(self._site, self._engine, now(), at_most=RESULT_PAGES)
            except (ScreenError, OSError) as error:  # the worker, or 'screen report', writes it too
                log.warning("the worklist cannot be written", extra={"slug": type(error).__name__})
