"""What lies in the inbox: films, and what is left alone, by kind."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.folders import walk
from worker.intake.names import is_temporary

TEMPORARY = "temporary name"
_KINDS = {
    stat.S_IFLNK: "symbolic link",  # never followed: it may lead anywhere
    stat.S_IFIFO: "FIFO",  # reading one can wait for ever
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",  # reading one can do anything
    stat.S_IFBLK: "device",
}


def scan(
    inbox: Path, on_error: Callable[[OSError], None], leave: Callable[[str, str], None]
) -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file in the inbox that no tool claims, with its status, in sorted order.

    What is left alone goes to `leave` as (kind, path), what cannot be asked to `on_error`.
    """

    def leave_temporary(entry: os.DirEntry[str]) -> bool:
        temporary = is_temporary(entry.name)
        if temporary:
            leave(TEMPORARY, entry.path)
        return temporary

    for entry in walk(inbox, on_error, leave_temporary):
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            on_error(error)
            continue
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind:
            leave(kind, entry.path)
        else:
            yield entry.path, status


@dataclass(frozen=True)
class Survey:
    """How many files wait in an inbox, and how many entries are left alone there, by kind.

    A folder with a temporary name counts once, with all it holds.
    """

    files: int
    left_alone: dict[str, int]
    unreadable: int


def survey(inbox: Path) -> Survey:
    """Count what lies in an inbox, for people. Raises OSError when it cannot be listed."""
    unreadable: list[OSError] = []
    kinds: Counter[str] = Counter()
    inbox.stat()
    files = sum(1 for _ in scan(inbox, unreadable.append, lambda kind, _: kinds.update([kind])))
    return Survey(files, dict(kinds), len(unreadable))
