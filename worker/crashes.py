"""Tell a worker that died of itself from one that was killed.

A film that takes the whole worker down must be found and set aside; one that was merely in hand
when somebody sent `kill -9`, or the power failed, is innocent. Only the first leaves a trace: the
interpreter writes one into this file when it dies by a fault (faulthandler), and we do when it
dies by an error of the program.
"""

import faulthandler
import os
from contextlib import suppress
from pathlib import Path

_LONGEST = 65_536


class CrashRecord:
    """The file beside the database; empty while all is well."""

    def __init__(self, database: str) -> None:
        self.path = Path(f"{database}.crash")
        self._descriptor: int | None = None

    def found(self) -> str | None:
        """First line of what an earlier worker left when it crashed; `None` if it did not."""
        try:
            lines = self.path.read_bytes()[:_LONGEST].decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return None
        return lines[0] if lines else None

    def arm(self) -> None:
        """Empty the file and have the interpreter write there if it dies by a fault."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)
        faulthandler.enable(self._descriptor)

    def note(self, error: BaseException) -> None:
        """Record an error of the program; its text may hold names and is left out."""
        with suppress(OSError):
            os.write(self._descriptor or -1, f"{type(error).__name__}\n".encode())

    def disarm(self) -> None:
        """Leave faults to their default again."""
        if self._descriptor is not None:
            faulthandler.disable()
            os.close(self._descriptor)
            self._descriptor = None
