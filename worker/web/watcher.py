"""Keep a worker running beside the page: `screen watch` as a process of its own."""

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_STEADY_S = 300.0  # who ran so long had no trouble at its start
_STOP_S = 110.0  # a batch may have to be finished


class Watcher:
    """Starts the worker, starts it again when it dies, and ends it in order."""

    def __init__(self, config_file: Path) -> None:
        self._command = [
            *(sys.executable, "-m", "worker", "watch"),
            *("--config", str(config_file)),
        ]
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="watcher")

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker as SIGTERM does, and wait for it."""
        self._stopping.set()
        if (process := self._process) is not None:
            process.terminate()
        self._thread.join(_STOP_S)
        if (process := self._process) is not None and process.poll() is None:
            log.error("the worker did not end in time", extra={"wait_s": _STOP_S})
            process.kill()
            self._thread.join()

    def _keep(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            ended = self._run_once()
            if self._stopping.is_set():
                return
            wait_s = _FIRST_WAIT_S if time.monotonic() - began_s > _STEADY_S else wait_s
            log.warning("%s and is started again", ended, extra={"wait_s": wait_s})
            self._stopping.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _run_once(self) -> str:
        """Run a worker to its end; what became of it."""
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
            )
        except OSError as error:  # no memory, no process to be had: later perhaps
            return f"the worker could not be started (errno {error.errno})"
        if self._stopping.is_set():  # it was told to stop before it knew this process
            self._process.terminate()
        return f"the worker ended with exit code {self._process.wait()}"
