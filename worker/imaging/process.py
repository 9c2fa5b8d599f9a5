"""One decoder process, seen from its parent: its start, its answers, its end."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO, TypeVar, cast

from worker.errors import DecoderCrashed, DecoderTimeout, FilmError
from worker.imaging import handover, wire
from worker.imaging.attributes import Attributes
from worker.imaging.confine import Isolation
from worker.imaging.limits import MIB, DecodeLimits, PrepareSettings
from worker.records import PreparedFilm

FILMS_PER_CHILD = 1000  # a child is replaced after so many: decoders leak
START_S = 60.0  # imports take 0.5 s; a loaded machine or a cold disk takes longer
_PIPE_BYTES = 1 << 20  # a film's answer in one go: fewer turns between child and parent
_HEADER_PIECE = 4096  # bytes asked for while a header is read: most are shorter
_DYING_S = 2.0  # from closing the pipe to the end of the process, whose status names the cause
_Said = TypeVar("_Said", PreparedFilm, Attributes)
_CHILD = ("-m", "worker.imaging.child")
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
# Where glibc's own thresholds end (mallopt(3)): a film's memory is there for the next one, which
# spares a thousand page faults a film.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
    "MALLOC_TRIM_THRESHOLD_": str(64 * MIB),
}
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")


class AskAnother(Exception):
    """What this child said may be the doing of an earlier film: a new child is to be asked."""


class DecoderProcess:
    """One decoder process, the socket that takes films to it and the pipe that brings answers."""

    def __init__(self, settings: PrepareSettings, limits: DecodeLimits) -> None:
        self._settings, self._limits = settings, limits
        self._films = 0
        self.is_spent = False
        self.isolation: Isolation | None = None  # as the child found it, once it is ready
        self._token = b""
        self._buffer = bytearray()
        self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with requests:
            self.process = subprocess.Popen(
                [sys.executable, "-B", "-P", *_CHILD, wire.settings_line(settings, limits)],
                stdin=requests.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the parent to handle
                bufsize=0,
                env=_environment(limits),
            )  # fmt: skip
        self._requests.shutdown(socket.SHUT_RD)  # nothing comes back that way, descriptors least
        self._answers = cast("IO[bytes]", self.process.stdout)
        with suppress(OSError):  # over the user's share of pipe memory: the kernel's size will do
            fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def is_ready(self) -> bool:
        """Wait until the child is loaded and confined; false when it never is."""
        try:
            self.isolation = wire.parse_ready(self._read_line(time.monotonic() + START_S))
        except (DecoderCrashed, DecoderTimeout, wire.BadAnswer):
            return False
        return True

    def ask(self, film: BinaryIO, *, attributes: bool = False) -> bool:
        """Hand over one open film; false when the child had died or spoken unasked before.

        `attributes` asks for what it says (`attributes`), else for its picture (`answer`).
        """
        self._token = handover.new_token()
        descriptor = film.fileno()
        size = os.fstat(descriptor).st_size
        try:
            if self._buffer or self._poll(0):
                raise BrokenPipeError("the pipe is not silent")
            request = handover.Request(self._token, descriptor, size, attributes)
            handover.send_request(self._requests, request)
        except OSError:
            self.is_spent = True
            return False
        self._films += 1
        return True

    def answer(self, film: BinaryIO) -> PreparedFilm:
        """Wait for the film asked for; raises what FilmError is due, then is spent if it died.

        Raises AskAnother where an earlier film may be to blame, and OSError where disk or share is.
        """

        def parse(header: wire.Header, deadline: float) -> PreparedFilm:
            blobs = self._read(header.blob_bytes, deadline)
            return wire.parse_film(header, blobs, self._settings)

        return self._answer(film, parse, attributes=False)

    def attributes(self, film: BinaryIO) -> Attributes:
        """`answer` where only attributes were asked for."""
        return self._answer(
            film, lambda header, _deadline: wire.parse_attributes(header), attributes=True
        )

    def _answer(
        self,
        film: BinaryIO,
        parse: Callable[[wire.Header, float], _Said],
        *,
        attributes: bool,
    ) -> _Said:
        deadline = time.monotonic() + self._limits.timeout_s
        self.is_spent = True
        try:
            line = self._read_line(deadline)
            header = wire.parse_header(line, self._token, self._settings, attributes=attributes)
            if header.unreadable:
                _read_through(film)  # whether it is so, a child is not believed
                raise AskAnother("the decoder could not read a film that can be read")
            said = header.error or parse(header, deadline)
        except wire.OtherAnswer as error:
            raise AskAnother("the decoder answered a question that was not asked") from error
        except wire.BadAnswer as error:
            raise DecoderCrashed("the decoder gave an answer that makes no sense") from error
        self.is_spent = header.last or self._films >= FILMS_PER_CHILD or bool(self._buffer)
        if isinstance(said, FilmError):
            raise said
        return said

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
            piece = bytearray(_HEADER_PIECE)
            self._buffer += piece[: self._receive(memoryview(piece), deadline)]
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _read(self, count: int, deadline: float) -> bytearray:
        """The next `count` bytes: what came with the header, then straight from the pipe."""
        blobs = bytearray(count)
        filled = min(count, len(self._buffer))
        blobs[:filled] = self._buffer[:filled]
        del self._buffer[:filled]
        rest = memoryview(blobs)
        while filled < count:
            filled += self._receive(rest[filled:], deadline)
        return blobs

    def _receive(self, place: memoryview, deadline: float) -> int:
        """Wait for bytes and put them in their place; gives how many came."""
        if not self._poll(max(0.0, deadline - time.monotonic())):
            raise DecoderTimeout(f"not decoded within {self._limits.timeout_s:g} s")
        count = os.readv(self._answers.fileno(), [place])
        if not count:
            raise self._death()
        return count

    def _poll(self, seconds: float) -> bool:
        """Wait until the child has said something or has closed its pipe; whether it has."""
        poller = select.poll()  # not select(): it fails beyond 1024 open files
        poller.register(self._answers.fileno(), select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def _death(self) -> FilmError:
        with suppress(subprocess.TimeoutExpired):  # it closed its pipe: let it die its own death
            self.process.wait(_DYING_S)
        self.process.kill()
        code = self.process.wait()
        if code == -signal.SIGXCPU:
            return DecoderTimeout(f"used more than {self._limits.timeout_s:g} s of CPU time")
        what = f"signal {-code}" if code < 0 else f"exit status {code}"
        return DecoderCrashed(f"the decoder process died with {what}")


def _read_through(film: BinaryIO) -> None:
    """Read a film to its end; raises the OSError that disk or share has for it."""
    film.seek(0)
    while film.read(1 << 20):
        pass


def _environment(limits: DecodeLimits) -> dict[str, str]:
    """One thread per library, OpenCV's own size cap, memory kept; no proxies and no secrets."""
    kept = {key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ}
    return kept | {
        "OMP_NUM_THREADS": "1",
        **_KEPT_MEMORY,
        "OPENBLAS_NUM_THREADS": "1",
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(limits.max_pixels),
        "PYTHONPATH": os.pathsep.join([_PACKAGE_ROOT, *(path for path in sys.path if path)]),
    }
