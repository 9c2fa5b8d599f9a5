"""One decoder process, seen from its parent: its start, its answers, its end."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, cast

from worker.errors import DecoderCrashed, DecoderTimeout, FilmError
from worker.imaging import wire
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.records import PreparedFilm

FILMS_PER_CHILD = 1000  # a child is replaced after so many: decoders leak
START_S = 60.0  # imports take 0.5 s; a loaded machine or a cold disk takes longer
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


class DecoderProcess:
    """One decoder process and the pipes to it."""

    def __init__(self, settings: PrepareSettings, limits: DecodeLimits) -> None:
        self._settings, self._limits = settings, limits
        self._films = 0
        self.is_spent = False
        self._buffer = bytearray()
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-P", "-m", "worker.imaging.child",
             wire.settings_line(settings, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent to handle
            bufsize=0,
            env=_environment(limits),
        )  # fmt: skip
        self._requests = cast("IO[bytes]", self.process.stdin)
        self._answers = cast("IO[bytes]", self.process.stdout)

    def is_ready(self) -> bool:
        """Wait until the child has imported its libraries; false when it never does."""
        try:
            return self._read_line(time.monotonic() + START_S) + b"\n" == wire.READY
        except (DecoderCrashed, DecoderTimeout, wire.BadAnswer):
            return False

    def ask(self, path: Path) -> bool:
        """Hand over one film; false when the child had died before."""
        try:
            self._requests.write(wire.request(path))
        except BrokenPipeError:
            return False
        self._films += 1
        return True

    def answer(self) -> PreparedFilm:
        """Wait for the film asked for; raises what FilmError is due, then is spent if it died."""
        deadline = time.monotonic() + self._limits.timeout_s
        self.is_spent = True
        try:
            header = wire.parse_header(self._read_line(deadline), self._settings)
            blobs = self._read(header.blob_bytes, deadline)
            film = header.error or wire.parse_film(header, blobs, self._settings)
        except wire.BadAnswer as error:
            raise DecoderCrashed("the decoder gave an answer that makes no sense") from error
        self.is_spent = header.last or self._films >= FILMS_PER_CHILD or bool(self._buffer)
        if isinstance(film, (FilmError, OSError)):
            raise film
        return film

    def end(self) -> None:
        """Kill and reap the process, close the pipes."""
        self.process.kill()
        self.process.wait()
        self._requests.close()
        self._answers.close()

    def _read_line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > wire.HEADER_BYTES:
                raise wire.BadAnswer("a header without end")
            self._receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _read(self, count: int, deadline: float) -> bytes:
        while len(self._buffer) < count:
            self._receive(deadline)
        blobs = bytes(self._buffer[:count])
        del self._buffer[:count]
        return blobs

    def _receive(self, deadline: float) -> None:
        fd = self._answers.fileno()
        poller = select.poll()  # not select(): it fails beyond 1024 open files
        poller.register(fd, select.POLLIN)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise DecoderTimeout(f"not decoded within {self._limits.timeout_s:g} s")
        data = os.read(fd, 1 << 16)
        if not data:
            raise self._death()
        self._buffer += data

    def _death(self) -> FilmError:
        self.process.kill()  # it closed its pipe: dead or as good as dead
        code = self.process.wait()
        if code == -signal.SIGXCPU:
            return DecoderTimeout(f"used more than {self._limits.timeout_s:g} s of CPU time")
        what = f"signal {-code}" if code < 0 else f"exit status {code}"
        return DecoderCrashed(f"the decoder process died with {what}")


def _environment(limits: DecodeLimits) -> dict[str, str]:
    """One thread per library and OpenCV's own size cap; no proxies and no secrets."""
    kept = {key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(limits.max_pixels),
        "PYTHONPATH": os.pathsep.join([_PACKAGE_ROOT, *(path for path in sys.path if path)]),
    }
