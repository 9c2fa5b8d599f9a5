"""Take away from a decoder process all that decoding does not need, as far as the kernel can.

Unprivileged and as root, in a container or not. Each layer that the kernel lacks is left out; what
is still possible afterwards is found by trying it, so that `screen doctor` can say so.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from worker.imaging import landlock, seccomp
from worker.imaging.kernel import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl


@dataclass(frozen=True)
class Isolation:
    """What confines a decoder process, and what it can do in spite of that.

    `gaps` are things tried after confinement that the kernel did not refuse.
    """

    layers: tuple[str, ...]
    gaps: tuple[str, ...]


def confine() -> Isolation:
    """Confine this process for good: no files, no network, no processes, no signals to others.

    Descriptors that are open stay usable. To be called while there is one thread, with everything
    imported.
    """
    parent = os.getppid()
    layers = []
    with suppress(OSError):  # however strange the kernel, films are decoded
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # the parent may die without closing its socket
        prctl(PR_SET_DUMPABLE, 0)  # no other process of this user may trace it or read its memory
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        layers.append("no new privileges")
    if version := landlock.restrict():
        layers.append(f"Landlock {version}")
    if seccomp.restrict():
        layers.append("seccomp")
    return Isolation(tuple(layers), tuple(_gaps(parent)))


def _gaps(parent: int) -> Iterator[str]:
    """What the kernel does not refuse, found by trying."""
    attempts: dict[str, Callable[[], object]] = {
        "open files": lambda: os.close(os.open("/", os.O_RDONLY)),
        "use the network": lambda: socket.socket(type=socket.SOCK_DGRAM).close(),
        "start processes": _start_process,
        "signal other processes": lambda: os.kill(parent, 0),
    }
    for what, attempt in attempts.items():
        with suppress(OSError):
            attempt()
            yield what


def _start_process() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
