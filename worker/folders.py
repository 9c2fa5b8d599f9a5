"""Walk folders the one way every command does, and open them without following links."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


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
    for entry in walk(path, on_error):
        if entry.is_file(follow_symlinks=False):  # false, not an error, if it vanished
            yield Path(entry.path)


def walk(
    folder: Path,
    on_error: Callable[[OSError], None],
    skip: Callable[[os.DirEntry[str]], bool] = lambda _entry: False,
) -> Iterator[os.DirEntry[str]]:
    """Every entry below a folder that is no folder itself, as `regular_files` orders them.

    What `skip` names is left out, folders with all they hold. Not recursive: a tree may be deeper
    than Python's stack. Where it is deeper than a path may be long, `on_error` gets ENAMETOOLONG.
    """
    levels = [iter(_listed(str(folder), on_error))]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
        elif not skip(entry):
            is_folder = _is_folder(entry, on_error)
            if is_folder:
                levels.append(iter(_listed(entry.path, on_error)))
            elif is_folder is False:
                yield entry


def _listed(folder: str, on_error: Callable[[OSError], None]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        on_error(error)
        return []


def _is_folder(entry: os.DirEntry[str], on_error: Callable[[OSError], None]) -> bool | None:
    """Whether an entry is a folder; `None` when the system does not say.

    Filesystems that list no types have to be asked, and may refuse.
    """
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError as error:
        on_error(error)
        return None


def open_folder(root: Path, below: Sequence[str] = ()) -> int:
    """Descriptor of `root`, or of a folder below it reached name by name without following a link.

    For the `dir_fd` of other calls: nobody can swap a folder for a link between them. `root` itself
    may be a link. Raises OSError; ENOTDIR where a link stands.
    """
    descriptor = os.open(root, _FOLDER)
    for name in below:
        try:
            deeper = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = deeper
    return descriptor


def display_name(path: Path | str) -> str:
    r"""Name of a file as text that any database can hold: bytes that are no UTF-8 as \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def local_name(folder: Path) -> Path:
    """A name for files about a folder on a share, in this machine's state directory.

    XDG Base Directory; folders of one name are told apart by their paths.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "screen"
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return state / f"{folder.name}-{digest}"
