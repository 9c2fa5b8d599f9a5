"""Folders of a process's own on this machine's disk, which go with it, or after its death."""

import fcntl
import glob
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def _prefix() -> str:
    """Of this host alone: a folder that is thought local may lie on a share."""
    host = socket.gethostname().partition(".")[0] or "host"
    return f".screen-scratch-{host}-"


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new folder that nobody else may read, gone at the end.

    Those of processes that died go first: each is locked for as long as its process lives. `parent`
    must be on a local disk, where locks (flock(2)) are whole. Raises OSError.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in parent.glob(f"{glob.escape(_prefix())}*"):
        with suppress(OSError):
            _remove_abandoned(folder)
    folder, descriptor = _locked(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(), dir=parent))
        try:
            descriptor = _opened(folder)
        except FileNotFoundError:  # another process took it for abandoned
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():  # else the same, a moment later
            return folder, descriptor
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    descriptor = _opened(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(descriptor)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
