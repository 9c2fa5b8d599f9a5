"""Hosts of a cluster as network namespaces, each with a cable of its own that can be pulled.

A host is a namespace with one end of a veth pair; the other end has the address at which it finds
the database. Needs the right to make them (root), and iproute2.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import NOT_ALLOWED

_CLONE_NEWNET = 0x4000_0000  # sched.h
_NAMES = "/run/netns"


@dataclass(frozen=True)
class Host:
    """A host; `server` is the address at which it reaches the database."""

    name: str
    number: int

    @property
    def server(self) -> str:
        """A network of its own for each."""
        return f"10.213.{self.number}.1"

    @property
    def cable(self) -> str:
        """The end of the cable at the database."""
        return f"{self.name}-db"

    def enter(self) -> None:
        """This process, and its children, are on that host from now on."""
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"{_NAMES}/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(descriptor, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)

    def cut(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        """Put it in again."""
        _ip("link", "set", self.cable, "up")


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Make hosts, and remove them at the end; skips where this is not allowed."""
    prefix = f"scr{os.getpid() % 100_000}"
    made = [
        Host(f"{prefix}-{number}", os.getpid() * count % 250 + number) for number in range(count)
    ]
    with ExitStack() as stack:
        for host in made:
            try:
                _ip("netns", "add", host.name)
                stack.callback(_ip, "netns", "del", host.name)  # its end goes, and so the other
                inside = ("netns", host.name)
                _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", *inside)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"{NOT_ALLOWED} network namespaces: {error}")
            _ip("addr", "add", f"{host.server}/24", "dev", host.cable)
            _ip("link", "set", host.cable, "up")
            its = f"10.213.{host.number}.2/24"
            _ip("-n", host.name, "addr", "add", its, "dev", "eth0")
            _ip("-n", host.name, "link", "set", "eth0", "up")
        yield made


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def is_there() -> bool:
    """Whether iproute2 is installed."""
    return any((Path(folder) / "ip").exists() for folder in ("/usr/sbin", "/sbin", "/usr/bin"))
