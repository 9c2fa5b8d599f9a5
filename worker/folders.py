"""Walk folders the one way every command does."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def raise_it(error: OSError) -> None:
    """Refuse to go on without what could not be listed."""
    raise error


def regular_files(path: Path, on_error: Callable[[OSError], None] = raise_it) -> Iterator[Path]:
    """Every regular file at or below `path`, recursively, in sorted order; links not followed.

    `path` itself may be a link: somebody named it. Sorted by the bytes of the names, folders
    among files. Folders that cannot be listed go to `on_error`, which raises unless told
    otherwise; what vanishes during the walk is passed over.
    """
    if not path.is_dir():
        if path.is_file():
            yield path
        return
    try:
        with os.scandir(path) as entries:
            ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        on_error(error)
        return
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            yield from regular_files(Path(entry.path), on_error)
        elif entry.is_file(follow_symlinks=False):  # false, not an error, if it vanished
            yield Path(entry.path)


def display_name(path: Path) -> str:
    r"""Name of a file as text that any database can hold: bytes that are no UTF-8 as \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
