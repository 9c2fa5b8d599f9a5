"""Run a command and see what it costs: time, processor time of its whole tree, memory over time."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bench.speed.facts import ROOT, cores

SCREEN = (sys.executable, "-m", "worker.cli.main")
_TAIL_BYTES = 2000
_TICKS = os.sysconf("SC_CLK_TCK")


class CommandFailed(Exception):
    """A command that was to be measured did not do its work."""


@dataclass(frozen=True)
class Sample:
    """The process tree at one moment, `at_s` after its start.

    `pss` shares out what processes share, `rss` counts it in each; `peak_rss` adds up the highest
    that each process ever had, so no short peak between samples is missed. Bytes; `cpu_s` is
    processor time so far.
    """

    at_s: float
    pss: int
    rss: int
    peak_rss: int
    processes: int
    cpu_s: float


@dataclass(frozen=True)
class Done:
    """A command that ended: how long, on how many cores' time, what it said when."""

    began: float  # Unix time
    seconds: float
    cpu_s: float
    code: int
    lines: list[tuple[float, str]]  # (seconds since start, line of stdout)
    samples: list[Sample] = field(default_factory=list)

    @property
    def busy(self) -> float:
        """Share of all cores' time that was used."""
        return self.cpu_s / self.seconds / cores()


def environment() -> dict[str, str]:
    """That of this process, with this checkout's code."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def run(
    command: Sequence[str | Path],
    *,
    sample_every_s: float | None = None,
    codes: Sequence[int] = (0,),
) -> Done:
    """Run a command to its end. Raises CommandFailed when its exit code is none of `codes`."""
    with tempfile.TemporaryFile() as errors:
        began, start = time.time(), time.perf_counter()
        process = start_process(command, errors)
        sampler = _Sampler(process.pid, start, sample_every_s) if sample_every_s else None
        stdout = process.stdout
        assert stdout is not None  # for the type checker
        lines = [(time.perf_counter() - start, line.rstrip("\n")) for line in stdout]
        _, status, usage = os.wait4(process.pid, 0)  # with its children, which it has reaped
        seconds = time.perf_counter() - start
        process.returncode = code = os.waitstatus_to_exitcode(status)
        samples = sampler.stop() if sampler else []
        if code not in codes:
            raise CommandFailed(f"{_named(command)} ended with {code}: {tail(errors)}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Done(began, seconds, cpu_s, code, lines, samples)


def start_process(command: Sequence[str | Path], errors: IO[bytes]) -> "subprocess.Popen[str]":
    """Start a command whose stdout can be read line by line; its stderr goes to `errors`."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment()
    )


def tail(errors: IO[bytes]) -> str:
    """The end of what a command said on stderr."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _TAIL_BYTES))
    return errors.read().decode(errors="replace").strip()


def _named(command: Sequence[str | Path]) -> str:
    return " ".join(map(str, command))


class _Sampler(threading.Thread):
    """Looks at a process tree every so often until it is stopped."""

    def __init__(self, pid: int, start: float, every_s: float) -> None:
        super().__init__(daemon=True)
        self._pid, self._began, self._every_s = pid, start, every_s
        self._ended = threading.Event()
        self._samples: list[Sample] = []
        self.start()

    def run(self) -> None:
        while not self._ended.wait(self._every_s):
            found = look(self._pid, time.perf_counter() - self._began)
            if found.processes:
                self._samples.append(found)

    def stop(self) -> list[Sample]:
        self._ended.set()
        self.join()
        return self._samples


def look(pid: int, at_s: float = 0.0) -> Sample:
    """What a process and its descendants hold now."""
    looks = [found for each in tree(pid) if (found := _look_at(each))]
    pss, rss, peak, cpu = (
        (sum(column) for column in zip(*looks, strict=True)) if looks else (0,) * 4
    )
    return Sample(at_s, int(pss), int(rss), int(peak), len(looks), float(cpu))


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text(encoding="ascii").split())
            except OSError:  # the process has ended meanwhile
                continue
    return found


def _look_at(pid: int) -> tuple[int, int, int, float] | None:
    """(PSS, RSS, highest RSS, processor seconds) of one process; `None` once it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        held = _kilobytes(folder / "smaps_rollup")
        status = _kilobytes(folder / "status")
        fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    if "Pss" not in held or "VmHWM" not in status:  # it ends just now
        return None
    cpu_s = sum(map(int, fields[11:15])) / _TICKS  # its own and that of children it has reaped
    return held["Pss"], held["Rss"], status["VmHWM"], cpu_s


def _kilobytes(file: Path) -> dict[str, int]:
    """The lines `Name: n kB` of one of the kernel's files, in bytes."""
    values = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            values[name] = int(value.split()[0]) * 1024
    return values
