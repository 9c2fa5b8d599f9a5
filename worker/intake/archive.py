"""Archives: folders that are only read."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from worker.errors import ShareGone, WrongArchive
from worker.folders import display_name, raise_it, walk
from worker.intake.found import Found

_SAYS_SOMETHING = 10  # films of an archive that are not there, and none that is
_HERE = "./"  # stands before every name in the working directory, and is no part of it


class Archive(Protocol):
    """Films that are only read: a folder, or a part of an object store."""

    @property
    def source(self) -> str:
        """What its films are recorded under."""

    def files(
        self, on_error: Callable[[OSError], None], after: bytes | None = None
    ) -> Iterator[Found]:
        """Its files, always in the same order; only those that come after a `Found.place`."""


@dataclass(frozen=True)
class Folder:
    """A folder, or one file, as it was given."""

    given: Path

    @property
    def source(self) -> str:
        """Where it lies, whatever it was called."""
        return display_name(self.given.resolve())

    def files(
        self, on_error: Callable[[OSError], None], after: bytes | None = None
    ) -> Iterator[Found]:
        """As `archive_files` gives them."""
        return archive_files(self.given, on_error, after)


def archive_files(
    given: Path,
    on_error: Callable[[OSError], None] = raise_it,
    after: bytes | None = None,
) -> Iterator[Found]:
    """Every regular file at or below `given`, in sorted order. `file` is the path as given.

    Folders that cannot be listed go to `on_error`; files that vanish meanwhile are left out. One
    look at each file: archives are large. `after` is the place of a file (`Found.place`): only
    those that come after it are given.
    """
    root = given.resolve()
    source = display_name(root)
    if not given.is_dir():
        try:
            status = root.stat()
        except FileNotFoundError:
            return
        if stat.S_ISREG(status.st_mode):
            yield Found(source, display_name(given), root, status.st_size, status.st_mtime_ns)
        return
    prefix, base = os.path.join(given, ""), os.path.join(root, "")  # noqa: PTH118 — no Path a file
    for entry in _regular(given, on_error, _names(base, after)):
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        below = entry.path[len(prefix) :]
        name = below if prefix == _HERE else entry.path
        where, size, mtime_ns = Path(base + below), status.st_size, status.st_mtime_ns
        yield Found(source, display_name(name), where, size, mtime_ns)


class Ground:
    """What archives' folders were at the start: a share may go, and leave its mount point."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        roots = {each.source: each.given.resolve() for each in archives if isinstance(each, Folder)}
        self._roots = {of: root if root.is_dir() else root.parent for of, root in roots.items()}
        self._before = {source: _holder(root) for source, root in self._roots.items()}

    def require(self, source: str) -> None:
        """Raise ShareGone unless an archive's folder holds something and is the one it was."""
        root = self._roots.get(source)
        if root is None:  # in an object store, which answers for itself
            return
        now = _holder(root)
        if now is None or now != self._before[source]:
            raise ShareGone(
                f"{display_name(root)} is gone, empty, or another folder than it was: if a share "
                "is not mounted there, mount it; then run the same again"
            )

    def require_films(self, source: str, films: Sequence[Path]) -> None:
        """Raise WrongArchive when none of some films that were listed lies there.

        Of less than ten nothing is concluded: they may have been deleted.
        """
        if source not in self._roots or len(films) < _SAYS_SOMETHING:
            return
        if not any(os.path.lexists(path) for path in films):
            raise WrongArchive(
                f"{display_name(self._roots[source])} holds none of {len(films)} films that were "
                "listed there: if another share is mounted, mount the right one, then run the same "
                "again; if they were deleted, run it once with --rescan"
            )


def _holder(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder; `None` for one that is gone or empty."""
    try:
        with os.scandir(folder) as entries:  # an automounted share is mounted by it
            if next(entries, None) is None:
                return None
        status = folder.stat()
    except FileNotFoundError:
        return None
    except PermissionError:  # it may still give the files it does not list
        status = folder.stat()
    return status.st_dev, status.st_ino


def count_files(given: Path, on_error: Callable[[OSError], None] = raise_it) -> int:
    """How many files `archive_files` would give, without a look at each."""
    if not given.is_dir():
        return int(given.is_file())
    return sum(1 for _ in _regular(given, on_error))


def _names(base: str, after: bytes | None) -> list[bytes]:
    """Names from the archive's folder on to one of its files; none for `None`."""
    return after.removeprefix(os.fsencode(base)).split(b"/") if after else []


def _regular(
    given: Path, on_error: Callable[[OSError], None], after: Sequence[bytes] = ()
) -> Iterator[os.DirEntry[str]]:
    for entry in walk(given, on_error, after=after):
        if entry.is_file(follow_symlinks=False):  # false, not an error, if it vanished
            yield entry
