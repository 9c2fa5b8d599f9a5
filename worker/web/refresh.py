"""Write the worklist again after reviews, some at once, without keeping a reader waiting."""

import logging
import threading

from sqlalchemy import Engine

from worker.config import Site
from worker.report.site import RESULT_PAGES, write_worklist
from worker.web.room import now

log = logging.getLogger(__name__)

_GATHER_S = 2.0


class Refresher:
    """A thread that writes the worklist some seconds after it was asked to."""

    def __init__(self, site: Site, engine: Engine) -> None:
        self._site, self._engine = site, engine
        self._wake, self._stopping, self._is_due = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def ask(self) -> None:
        """The worklist is not true any more."""
        self._is_due = True
        self._wake.set()

    def stop(self) -> None:
        """Write what is still asked for, and end."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while self._is_due or not self._stopping.is_set():
            self._wake.wait()
            self._stopping.wait(_GATHER_S)
            self._wake.clear()
            if self._is_due:
                self._is_due = False  # before it is read: what is asked for meanwhile comes after
                self._write()

    def _write(self) -> None:
        try:
            write_worklist(self._site, self._engine, now(), at_most=RESULT_PAGES)
        except Exception as error:  # the worker, or 'screen report', writes it too; others go on
            log.warning("the worklist cannot be written", extra={"slug": type(error).__name__})
