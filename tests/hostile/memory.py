"""What the worker and its decoders hold in memory, sampled while they work.

Shared pages are counted once: the sum over processes is of PSS (proc(5), smaps_rollup).
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from worker.config import Config

WORKER_MIB = 1536  # the worker itself: torch, network, batches in hand, the worklist
LIBRARIES_MIB = 256  # a decoder process before its first film
_EVERY_S = 0.25


def bound_mib(config: Config) -> int:
    """The most that the worker and its decoders may hold together, in MiB; see docs/RELIABILITY.md.

    What one film may take is held by the kernel (RLIMIT_AS in each decoder).
    """
    decode = config.decode
    return WORKER_MIB + decode.process_count * (LIBRARIES_MIB + decode.memory_mb)


@dataclass
class Peaks:
    """The most seen so far, in MiB: all together (PSS), the worker and any decoder (VmHWM)."""

    together: float = 0.0
    worker: float = 0.0
    decoder: float = 0.0
    decoders: set[int] = field(default_factory=set)  # process ids


class MemorySampler:
    """Looks at a process and its descendants every quarter of a second, on a thread of its own."""

    def __init__(self, pid: int) -> None:
        self.peaks = Peaks()
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> Peaks:
        """End, and give the peaks."""
        self._ended.set()
        self._thread.join()
        return self.peaks

    def _run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._sample()

    def _sample(self) -> None:
        together = 0.0
        own = _command(self._pid)
        for pid in descendants(self._pid):
            together += _field_mib(pid, "smaps_rollup", "Pss:")
            most = _field_mib(pid, "status", "VmHWM:")
            if pid == self._pid:
                self.peaks.worker = max(self.peaks.worker, most)
            elif _command(pid) != own:  # between fork and exec a child shares its parent's memory
                self.peaks.decoder = max(self.peaks.decoder, most)
                self.peaks.decoders.add(pid)
        self.peaks.together = max(self.peaks.together, together)


def descendants(root: int) -> list[int]:
    """A process and all below it that run now."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(after_name[1]), []).append(int(path.parent.name))
    found, look_at = [], [root]
    while look_at:
        pid = look_at.pop()
        found.append(pid)
        look_at += children.get(pid, [])
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _field_mib(pid: int, file: str, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)
