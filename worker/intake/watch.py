"""Wake the daemon when something happens in the inbox. An event never decides anything."""

import logging
import threading
from pathlib import Path
from typing import Literal

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

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
    """A watchdog observer that is started again when it dies; the daemon lives on without it."""

    def __init__(self, inbox: Path, mode: Mode, poll_s: float, wake: threading.Event) -> None:
        self._inbox, self._poll_s, self._wake = inbox, poll_s, wake
        polling = mode == "polling" or (mode == "auto" and is_network(inbox))
        self.kind = "polling" if polling else "native"
        self._observer: BaseObserver | None = None
        self.ensure()

    def ensure(self) -> None:
        """Start the observer if none is alive. Failure is logged: scans at intervals go on."""
        if self._observer is not None and self._observer.is_alive():
            return
        observer = PollingObserver(timeout=self._poll_s) if self.kind == "polling" else Observer()
        try:
            observer.schedule(_Wake(self._wake), str(self._inbox), recursive=True)
            observer.start()
        except OSError as error:
            log.warning(
                "no events from the inbox: scanning at intervals", extra={"errno": error.errno}
            )
            self._observer = None
            return
        if self._observer is not None:
            log.warning("the watcher of the inbox had died and was started again")
        self._observer = observer

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
