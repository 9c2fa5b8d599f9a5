"""The worker's pulse: a small file that says what it does, and a word to systemd's watchdog.

The file lies beside the database, on a local disk, and keeps its length: it is written in place, so
that it can be written when the disk is full. No failure of the pulse stops the screening.
"""

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_LENGTH = 1024  # bytes
_LONGEST_CAUSE = 200  # characters: the rest of the JSON takes less than 500 bytes
_WRITE_EVERY_S = 1.0
HANGS_AFTER_S = 120.0  # without a sign of life
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SUFFIX = ".worker"


@dataclass(frozen=True)
class Pulse:
    """What the worker last said. Moments are ISO 8601 in UTC; `monotonic_s` is CLOCK_MONOTONIC.

    `state` is starting, idle, working, paused or stopping.
    `process_started` is field 22 of /proc/PID/stat, in clock ticks since boot: with the process
    id it tells this process from a later one. `finished` counts files of this run.
    """

    pid: int
    process_started: int
    boot_id: str
    run: int
    state: str
    cause: str | None
    since: str
    at: str
    monotonic_s: float
    finished: int
    note: str | None = None  # what else people should know: that a GPU ran out of memory, say


@dataclass(frozen=True)
class Health:
    """What a pulse says of the worker: whether it lives, in which state, and one line of words."""

    healthy: bool
    state: str
    words: str
    pulse: Pulse | None
    age_s: float | None


def pulse_file(database: Path) -> Path:
    """Where the worker of this database writes its pulse."""
    return database.with_name(database.name + _SUFFIX)


class Notifier:
    """Speaks to systemd as sd_notify(3) describes: datagrams to $NOTIFY_SOCKET, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        self._every_s = int(usec) / 4e6 if mine and usec.isdecimal() else float("inf")
        self._next_s = float("-inf")

    def tell(self, *lines: str) -> None:
        """Send some lines; whether anybody hears is not our concern."""
        if not self._address or not lines:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto("\n".join(lines).encode(), self._address)

    def watchdog(self, now_s: float) -> None:
        """Say that we live, at most every quarter of $WATCHDOG_USEC."""
        if self._every_s != float("inf") and now_s >= self._next_s:
            self._next_s = now_s + self._every_s
            self.tell("WATCHDOG=1")


class Heartbeat:
    """Beats while the worker works. `now` is CLOCK_MONOTONIC in seconds, `clock` tells the day."""

    def __init__(
        self,
        path: Path,
        run: int,
        *,
        notifier: Notifier | None = None,
        note: Callable[[], str | None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path, self._run, self._note = path, run, note
        self._now, self._clock = now, clock
        self._notifier = notifier or Notifier()
        self._identity = (os.getpid(), _process_started(os.getpid()) or 0, _boot_id())
        self._said: tuple[str, str | None] | None = None
        self._since, self._finished = "", 0
        self._written_s = float("-inf")
        self._ready = self._in_trouble = False

    def beat(self, state: str, *, cause: str | None = None, finished: int = 0) -> None:
        """Say what the worker does now; cheap enough for every turn of a loop. Never raises.

        `cause` says in a few words why it is paused, without names; `finished` counts the files
        that came to an end since the last beat.
        """
        now_s = self._now()
        cause = cause[:_LONGEST_CAUSE] if cause else None
        self._finished += finished
        changed = self._said != (state, cause)
        if changed:
            self._said, self._since = (state, cause), self._clock().isoformat(timespec="seconds")
            self._notify(state, cause)
        if changed or now_s - self._written_s >= _WRITE_EVERY_S:
            self._written_s = now_s
            self._write(state, cause, now_s)
        self._notifier.watchdog(now_s)

    def _notify(self, state: str, cause: str | None) -> None:
        lines = [f"STATUS={_printable(state if cause is None else f'{state}: {cause}')}"]
        if state == "stopping":
            lines.append("STOPPING=1")
        elif state != "starting" and not self._ready:
            self._ready = True
            lines.append("READY=1")
        self._notifier.tell(*lines)

    def _write(self, state: str, cause: str | None, now_s: float) -> None:
        pid, started, boot = self._identity
        at = self._clock().isoformat(timespec="seconds")
        pulse = Pulse(
            *(pid, started, boot, self._run, state, cause, self._since, at),
            monotonic_s=round(now_s, 3),
            finished=self._finished,
            note=self._note(),
        )
        line = json.dumps(asdict(pulse)).encode()
        if len(line) >= _LENGTH:  # a cause full of odd characters
            line = json.dumps(asdict(pulse) | {"cause": None}).encode()
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, line.ljust(_LENGTH - 1) + b"\n", 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._in_trouble:
                log.warning("the heartbeat cannot be written", extra={"errno": error.errno})
            self._in_trouble = True
        else:
            self._in_trouble = False


def read_pulse(path: Path) -> Pulse | None:
    """What the worker last said; `None` when none ever ran here, or what is there is no pulse."""
    try:
        values: Any = json.loads(_read_whole(path))
        return Pulse(**values)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _read_whole(path: Path) -> bytes:
    """Content of the file, read until it is twice the same: it may be written meanwhile."""
    before = path.read_bytes()
    for _ in range(5):
        again = path.read_bytes()
        if again == before:
            break
        before = again
    return before


def health_of(
    database: Path, now_s: float, max_age_s: float = HANGS_AFTER_S, *, strict: bool = False
) -> Health:
    """How the worker of this database is; see `judge`."""
    return judge(read_pulse(pulse_file(database)), now_s, max_age_s, strict=strict)


def judge(pulse: Pulse | None, now_s: float, max_age_s: float, *, strict: bool = False) -> Health:
    """Whether the worker lives. `now_s` is CLOCK_MONOTONIC, which is one for all processes.

    A paused worker is healthy unless `strict`: to start it again would not mend disk or share.
    """
    if pulse is None:
        return Health(False, "none", "no worker has run here yet", None, None)
    if pulse.boot_id != _boot_id() or _process_started(pulse.pid) != pulse.process_started:
        words = f"the worker (process {pulse.pid}) is gone; it was {pulse.state} at {pulse.at}"
        if pulse.state == "stopping":
            words = f"no worker runs; the last one ended in order at {pulse.at}"
        return Health(False, "gone", words, pulse, None)
    age_s = max(0.0, now_s - pulse.monotonic_s)
    if age_s > max_age_s:
        words = f"no sign of life of the worker (process {pulse.pid}) for {age_s:.0f} s"
        return Health(False, "hangs", f"{words}; it was {pulse.state}", pulse, age_s)
    words = f"{pulse.state} since {pulse.since}"
    if pulse.cause:
        words += f" because: {pulse.cause}"
    words += f"; {pulse.finished} files finished in run {pulse.run}"
    words += f"; {pulse.note}" if pulse.note else ""
    return Health(not (strict and pulse.state == "paused"), pulse.state, words, pulse, age_s)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _process_started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), stat, 22); `None` if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
