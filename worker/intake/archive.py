"""Archives: folders that are only read."""

from collections.abc import Callable, Iterator
from pathlib import Path

from worker.folders import display_name, raise_it, regular_files
from worker.intake.found import Found


def archive_files(given: Path, on_error: Callable[[OSError], None] = raise_it) -> Iterator[Found]:
    """Every regular file at or below `given`, in sorted order. `file` is the path as given.

    Folders that cannot be listed go to `on_error`; files that vanish meanwhile are left out.
    """
    root = given.resolve()
    source = display_name(root)
    for path in regular_files(given, on_error):
        where = root / path.relative_to(given)
        try:
            status = where.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield Found(source, display_name(path), where, status.st_size, status.st_mtime_ns)
