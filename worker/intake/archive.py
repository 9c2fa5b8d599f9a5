"""Archives: folders that are only read."""

from collections.abc import Iterator
from pathlib import Path

from worker.folders import display_name, regular_files
from worker.intake.found import Found


def archive_files(given: Path) -> Iterator[Found]:
    """Every regular file at or below `given`, in sorted order. `file` is the path as given.

    Files that vanish while the archive is walked are left out.
    """
    root = given.resolve()
    source = display_name(root)
    for path in regular_files(given):
        where = root / path.relative_to(given)
        try:
            status = where.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield Found(source, display_name(path), where, status.st_size, status.st_mtime_ns)
