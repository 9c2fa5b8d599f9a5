"""Walk folders the one way every command does."""

import os
from collections.abc import Iterator
from pathlib import Path


def regular_files(path: Path) -> Iterator[Path]:
    """Every regular file at or below `path`, recursively, in sorted order; links not followed.

    `path` itself may be a link: somebody named it. Sorted by the bytes of the names, folders
    among files. Raises OSError for what cannot be listed.
    """
    if not path.is_dir():
        if path.is_file():
            yield path
        return
    with os.scandir(path) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            yield from regular_files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):  # false, not an error, if it vanished
            yield Path(entry.path)


def display_name(path: Path) -> str:
    r"""Name of a file as text that any database can hold: bytes that are no UTF-8 as \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
