"""The decoder child: reads paths from stdin, answers prepared films on stdout.

`python -m worker.imaging.child SETTINGS`, started by `sandbox` and by nothing else. Native
decoders may crash it, fill its memory or spin: then it dies alone. Its stdout is the protocol, so
it is moved away before any decoder could print there.
"""

import hashlib
import os
import resource
import signal
import sys
from math import ceil
from pathlib import Path
from typing import BinaryIO

import cv2

from worker.errors import FilmError, TooLarge
from worker.filesystem import open_film
from worker.imaging import prepare, wire
from worker.imaging.decode import decode
from worker.imaging.limits import MIB, DecodeLimits, PrepareSettings
from worker.records import PreparedFilm

_OPEN_FILES = 64


def main() -> None:
    """Serve films until stdin ends, which it does when the parent dies."""
    settings, limits = wire.parse_settings(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print goes where stderr goes: nowhere
    cv2.setNumThreads(1)
    _confine(limits)
    answers.write(wire.READY)
    answers.flush()
    for line in sys.stdin.buffer:
        _arm_cpu_limit(limits)
        if _serve(wire.parse_request(line), settings, limits, answers):
            return


def _confine(limits: DecodeLimits) -> None:
    """Take away what decoding does not need. The libraries themselves do not count as memory."""
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


def _serve(path: Path, settings: PrepareSettings, limits: DecodeLimits, answers: BinaryIO) -> bool:
    """Answer one film; true when this process is worn out: memory that ran out is fragmented."""
    last = False
    try:
        answer = wire.film_answer(_prepared(path, settings, limits))
    except OSError as error:
        answer = (wire.system_answer(error),)
    except FilmError as error:
        last = isinstance(error.__cause__, MemoryError)
        answer = (wire.error_answer(error, last),)
    except MemoryError:
        last = True
        too_large = TooLarge("the film needs more memory than [decode] memory_mb allows")
        answer = (wire.error_answer(too_large, last),)
    answers.write(b"".join(answer))
    answers.flush()
    return last


def _prepared(path: Path, settings: PrepareSettings, limits: DecodeLimits) -> PreparedFilm:
    with open_film(path, limits.max_file_bytes) as file:
        data = file.read(os.fstat(file.fileno()).st_size + 1)
    film = decode(data, limits)
    low, high = settings.stretch_low, settings.stretch_high
    return PreparedFilm(
        sha256=hashlib.sha256(data).hexdigest(),
        model_input=prepare.model_input(film.pixels, settings.size_px, low, high),
        picture=prepare.display_picture(film.pixels, settings.picture_px, settings.quality),
        format=film.format,
        rows=film.pixels.shape[0],
        columns=film.pixels.shape[1],
        tags=film.tags,
        notes=film.notes,
        refusal=film.refusal,
    )


if __name__ == "__main__":
    main()
