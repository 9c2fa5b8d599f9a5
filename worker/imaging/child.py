"""The decoder child: takes open films from a socket, answers with prepared ones on stdout.

`python -m worker.imaging.child SETTINGS`, started by `sandbox` and by nothing else. Native
decoders may crash it, fill its memory or spin: then it dies alone. Before its first film it gives
up files, network and processes (`confine`), so that a film which takes it over gains nothing: it
is handed descriptors and never learns a name. Its stdout is the protocol, so it is moved away
before any decoder could print there.
"""

import hashlib
import importlib
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import BinaryIO

import cv2
from PIL import Image
from pydicom.charset import python_encoding

from worker.errors import FilmError, TooLarge
from worker.imaging import handover, prepare, wire
from worker.imaging.confine import confine
from worker.imaging.decode import decode
from worker.imaging.header import attributes_of
from worker.imaging.limits import MIB, DecodeLimits, PrepareSettings

_OPEN_FILES = 64

Answer = tuple[bytes | memoryview, ...]

# What libraries would import only when a film first needs it: afterwards no file can be opened.
_LATER = ("PIL.ImageFile", "numpy.ma", "pydicom.overlays", "_strptime", "libjpeg")


def main() -> None:
    """Serve films until the socket closes, which it does when the parent dies."""
    settings, limits = wire.parse_settings(sys.argv[1])
    requests = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print goes where stderr goes: nowhere
    cv2.setNumThreads(1)
    load_everything()
    _limit(limits)
    answers.write(wire.ready_line(confine()))
    answers.flush()
    serve(requests, answers, settings, limits)


def load_everything() -> None:
    """Import what films of any kind may need, character sets of tags among it."""
    for module in _LATER:
        with suppress(ImportError):  # libjpeg is an extra
            importlib.import_module(module)
    Image.preinit()
    for encoding in set(python_encoding.values()):
        "".encode(encoding)
    hashlib.sha256(b"")


def serve(
    requests: socket.socket, answers: BinaryIO, settings: PrepareSettings, limits: DecodeLimits
) -> None:
    """Answer one film after the other, until the parent closes or this process is worn out."""
    while (request := handover.receive_request(requests)) is not None:
        _arm_cpu_limit(limits)
        try:
            answer, last = _answer(request, settings, limits)
        finally:
            os.close(request.film)
        for part in answer:
            answers.write(part)
        answers.flush()
        if last:
            return


def _limit(limits: DecodeLimits) -> None:
    """Limit memory, files and what is written. The libraries themselves do not count as memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + limits.memory_mb * MIB
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _arm_cpu_limit(limits: DecodeLimits) -> None:
    """Let this film have the CPU time it may have; the kernel then sends SIGXCPU, which kills."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = ceil(used.ru_utime + used.ru_stime + limits.timeout_s) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def _answer(
    request: handover.Request, settings: PrepareSettings, limits: DecodeLimits
) -> tuple[Answer, bool]:
    """What to say of one film, and whether this process is worn out: its memory ran out once."""
    try:
        data = _content(request)
    except OSError:
        return (wire.unreadable_answer(request.token),), False
    except MemoryError as error:
        return _too_large(request, error)
    try:
        if request.attributes:
            return (wire.attributes_answer(request.token, attributes_of(data, limits)),), False
        return _prepared(data, request.token, settings, limits), False
    except FilmError as error:
        last = isinstance(error.__cause__, MemoryError)
        return (wire.error_answer(request.token, error, last),), last
    except MemoryError as error:
        return _too_large(request, error)


def _too_large(request: handover.Request, cause: MemoryError) -> tuple[Answer, bool]:
    cause.__traceback__ = None  # its frames hold what filled the memory
    error = TooLarge("the film needs more memory than [decode] memory_mb allows")
    return (wire.error_answer(request.token, error, True),), True


def _content(request: handover.Request) -> bytes:
    """The film's bytes; one more than it had when it was opened, if it grew since. Raises OSError.

    The parent shares the file's position, so it is left alone.
    """
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(request.film, request.size + 1 - offset, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _prepared(data: bytes, token: bytes, settings: PrepareSettings, limits: DecodeLimits) -> Answer:
    film = decode(data, limits, settings.picture_px, identity=settings.identity)
    low, high = settings.stretch_low, settings.stretch_high
    return wire.film_answer(
        token,
        hashlib.sha256(data).hexdigest(),
        film,
        prepare.model_input(film.pixels, settings.size_px, low, high, (film.rows, film.columns)),
        prepare.display_levels(film.pixels, settings.picture_px),
    )


if __name__ == "__main__":
    main()
