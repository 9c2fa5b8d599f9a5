"""Wake the daemon when something happens in the inbox. An event never decides anything."""

import logging
import threading
import warnings
from pathlib import Path
from typing import Literal

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from worker.filesystem import is_network

log = logging.getLogger(__name__)

Mode = Literal["auto", "native", "polling"]


class _Wake(FileSystemEventHandler):
    def __init__(self, wake: threading.Event) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake on whatever happened, except that somebody read."""
        if event.event_type not in ("opened", "closed_no_write"):
            self._wake.set()


class Watcher:
    """A watchdog observer that is started again when it dies; the daemon lives on without it.

    Polling needs none: the daemon scans at intervals anyway. (Watchdog's own polling observer
    would walk the inbox once more, through links that lead out of it and in circles.)
    """

    def __init__(self, inbox: Path, mode: Mode, wake: threading.Event) -> None:
        self._inbox, self._wake = inbox, wake
        polling = mode == "polling" or (mode == "auto" and is_network(inbox))
        self.kind = "polling" if polling else "native"
        self._observer: BaseObserver | None = None
        self._errno: int | None = None  # of the last failure, to say it once
        _silence_watchdog()
        self.ensure()

    def ensure(self) -> None:
        """Start the observer if none is alive. Failure is logged: scans at intervals go on."""
        if self.kind == "polling" or (self._observer is not None and self._observer.is_alive()):
            return
        observer = Observer()
        try:
            observer.schedule(_Wake(self._wake), str(self._inbox), recursive=True)
            observer.start()
        except OSError as error:
            self._say_once(error)
            return
        if self._observer is not None:
            log.warning("the watcher of the inbox had died and was started again")
        self._observer, self._errno = observer, None

    def _say_once(self, error: OSError) -> None:
        if error.errno != self._errno:
            self._errno = error.errno
            log.warning(
                "no events from the inbox: scanning at intervals", extra={"errno": error.errno}
            )

    def wait(self, timeout_s: float) -> bool:
        """Wait for an event, at most `timeout_s`; True if there was one."""
        woken = self._wake.wait(timeout_s)
        self._wake.clear()
        return woken

    def stop(self) -> None:
        """Stop the observer and wait for its threads."""
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()


def _silence_watchdog() -> None:
    """Keep what watchdog says out of our log: it names folders, and no event decides anything."""
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="watchdog")
