"""Put films into an inbox as the worker expects them: whole, under a name that is free."""

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Self

from worker.filesystem import move_new, sync_folder
from worker.intake.names import is_temporary

_LONGEST_NAME_BYTES = 255
_ROOM_BYTES = 55  # for a number that tells two names apart, and for names of claims
_LONGEST_SUFFIX_BYTES = 10
_PREFIX, _SUFFIX = ".upload-", ".part"  # names that the worker leaves alone
_NUMBERS = 10_000
_NOT_OURS = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENXIO)


def deliver(film: Path, folder: Path, names: Iterable[str]) -> Path | None:
    """Move a film into a folder of the inbox under the first name that is free.

    Names that the worker would leave alone, or the system not have, are passed over. `None` when
    none was left. Raises OSError.
    """
    for name in names:
        if is_temporary(name) or len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
            continue
        with suppress(FileExistsError):
            move_new(film, folder / name)
            return folder / name
    return None


def safe_name(given: str) -> str:
    r"""One component of a path, as near as can be to the name that a stranger gave.

    Folders before the name are dropped, also those of Windows; what is not printable becomes `_`.

    >>> safe_name("C:\\films\\../ward 3/.chest.dcm")
    'chest.dcm'
    """
    name = given.replace("\\", "/").rpartition("/")[2].encode("utf-8", "replace").decode("utf-8")
    name = "".join(char if char.isprintable() else "_" for char in name).strip().lstrip(".~$ ")
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > _LONGEST_SUFFIX_BYTES:
        stem, dot, suffix = name, "", ""
    longest = _LONGEST_NAME_BYTES - _ROOM_BYTES - len(f"{dot}{suffix}".encode())
    name = f"{_cut(stem, longest)}{dot}{suffix}"
    return f"film-{_cut(name, 100)}.film" if not stem or is_temporary(name) else name


def numbered(name: str) -> Iterator[str]:
    """The name, then the name with numbers: `film.dcm`, `film-2.dcm`, `film-3.dcm` and so on."""
    path = Path(name)
    more = (f"{path.stem}-{number}{path.suffix}" for number in count(2))
    yield from chain([name], (next(more) for _ in range(_NUMBERS)))


@dataclass(frozen=True)
class Delivered:
    """A film that lies in the inbox for good: its name there, its content's SHA-256, its size."""

    name: str
    sha256: str
    size: int


class Parcel:
    """A film that is coming in piece by piece; it has no name for the worker before it is whole.

    A context: without `deliver` nothing of it stays. Holds a lock on its file, so that what a
    killed server left can be told from what is still being written.
    """

    def __init__(self, inbox: Path, mode: int) -> None:
        self._inbox = inbox
        descriptor, path = tempfile.mkstemp(_SUFFIX, _PREFIX, inbox)
        self._path, self._file = Path(path), os.fdopen(descriptor, "wb")
        self._hash, self.size = hashlib.sha256(), 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, mode)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close, and remove what was not delivered."""
        try:
            self._path.unlink(missing_ok=True)
        finally:
            self._file.close()

    def write(self, piece: bytes) -> None:
        """Add a piece. Raises OSError."""
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def deliver(self, name: str) -> Delivered:
        """Give the film its name, as `safe_name` and `numbered` say; it survives a power loss.

        Raises OSError; then its sender must not be told that it came.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        place = deliver(self._path, self._inbox, numbered(safe_name(name)))
        if place is None:
            raise FileExistsError(errno.EEXIST, "every name for it in the inbox is taken")
        sync_folder(self._inbox)
        return Delivered(place.name, self._hash.hexdigest(), self.size)


def remove_abandoned(inbox: Path) -> int:
    """Remove what uploads left when their server was killed; how many. Nobody was told they came.

    Raises OSError.
    """
    return sum(_remove_unheld(path) for path in inbox.glob(f"{_PREFIX}*{_SUFFIX}"))


def _remove_unheld(path: Path) -> bool:
    """Remove a file that nobody holds the lock of; whether it was there.

    Opened for writing: NFS gives whole locks for that alone (flock(2)). No link is followed, and no
    pipe waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False  # another server writes it
    finally:
        os.close(descriptor)
    return True


def _cut(text: str, size: int) -> str:
    """The beginning of a text, of so many bytes at most."""
    return text.encode()[:size].decode("utf-8", "ignore")
