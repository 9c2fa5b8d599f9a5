"""What kind of filesystem a path lies on, and writing files so that a crash leaves no half."""

import ctypes
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from worker.errors import ConfigError, LostFile, TooLarge, UnreadableFile
from worker.failpoints import reach

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ncpfs", "davfs"),
        *("ceph", "glusterfs", "lustre", "beegfs", "gpfs", "fuse.ceph", "fuse.glusterfs"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.davfs"),
    }
)


_ABOUT_THE_FILE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO)
HELD_OPEN = (errno.EBUSY, errno.ETXTBSY)  # by somebody on the share, a virus scanner say
TEMPORARY = _TEMPORARY_PREFIX, _TEMPORARY_SUFFIX = ".screen-", ".tmp"
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # fcntl.h, stdio.h
_SYNCS_AT_ONCE = 8  # the kernel gathers them into one commit of its journal
_libc = ctypes.CDLL(None, use_errno=True)


def filesystem_type(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Name of the filesystem that holds `path`, such as `ext4` or `nfs4`; empty when unknown.

    Taken from the longest mount point above the path (proc(5), mountinfo).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    path = path.resolve()
    found, kind = Path(), ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].encode().decode("unicode_escape"))
        if path.is_relative_to(point) and len(point.parts) >= len(found.parts):
            found, kind = point, after.split()[0]
    return kind


def is_network(path: Path) -> bool:
    """Whether `path` lies on a network share: no events there, and no trustworthy locks."""
    return filesystem_type(path) in _NETWORK


def open_film(path: Path, max_bytes: int) -> BufferedReader:
    """Open a regular file that is no link and not too large, for reading.

    Raises LostFile, UnreadableFile or TooLarge where this one file is to blame, and OSError where
    the disk or the share is: a share that is gone says nothing of its films.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        path.parent.parent.stat()  # raises when the share is gone, or work/
        raise LostFile("the file is not there: feed it in again") from error
    except OSError as error:
        if error.errno not in _ABOUT_THE_FILE:
            raise
        raise UnreadableFile(
            f"the file cannot be read ({os.strerror(error.errno or 0)}): check its rights, "
            "then feed it in again"
        ) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= max_bytes:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile("not a regular file")
    raise TooLarge(f"the file is larger than {max_bytes >> 20} MiB ([decode] max_file_mb)")


def sha256_of(path: Path, max_bytes: int) -> str:
    """SHA-256 of a film's content. Raises as `open_film` does."""
    with open_film(path, max_bytes) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def works(folder: Path) -> bool:
    """Whether something can be written to the disk there and be read again."""
    probe = folder / f"{_TEMPORARY_PREFIX}probe{_TEMPORARY_SUFFIX}"
    try:
        write_atomic(probe, b"probe", 0o600, sync=True)
        probe.unlink()
    except OSError:
        return False
    return True


def write_atomic(path: Path, data: bytes, mode: int, *, sync: bool = False) -> None:
    """Write under a temporary name and rename, so that `path` is whole or absent.

    With `sync` the content is on the disk before the rename; the folder is the caller's.
    Raises OSError.
    """
    write_all_atomic({path: data}, mode, sync=sync)


def write_all_atomic(files: Mapping[Path, bytes], mode: int, *, sync: bool = False) -> None:
    """`write_atomic` of several files: all are written, then synced together, then renamed."""
    with _written(files, mode, sync=sync) as temporary:
        for path in files:
            temporary.pop(path).replace(path)
            reach("file-renamed")


def write_new(files: Mapping[Path, bytes], mode: int) -> None:
    """Write several files, whole and synced, over no other: all of them or none.

    Raises FileExistsError, OSError.
    """
    done: list[Path] = []
    with _written(files, mode, sync=True) as temporary:
        try:
            for path in files:
                move_new(temporary[path], path)
                done.append(path)
        except BaseException:
            for path in done:
                path.unlink(missing_ok=True)
            raise


@contextmanager
def _written(files: Mapping[Path, bytes], mode: int, *, sync: bool) -> Iterator[dict[Path, Path]]:
    """Files under temporary names, by what they will be called; what is left of them goes."""
    temporary: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            descriptor, name = tempfile.mkstemp(_TEMPORARY_SUFFIX, _TEMPORARY_PREFIX, path.parent)
            temporary[path] = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                reach("file-created")
                file.write(data)
            reach("file-written")
        if sync:
            _sync_files(list(temporary.values()))
            reach("file-synced")
        yield temporary
    finally:
        for left in temporary.values():
            left.unlink(missing_ok=True)


@contextmanager
def output(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """A file to write a result to, piece by piece; `path` is whole, or as it was before.

    A link is followed. What stands there and is no file (a terminal, a pipe) is written to, never
    replaced. Raises OSError.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as stream:
            yield stream
        return
    target = path.resolve()
    descriptor, temporary = tempfile.mkstemp(_TEMPORARY_SUFFIX, _TEMPORARY_PREFIX, target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync_files(paths: Sequence[Path]) -> None:
    if len(paths) == 1:
        _sync(paths[0], os.O_NOFOLLOW)
        return
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        list(pool.map(lambda path: _sync(path, os.O_NOFOLLOW), paths))


def read_secret(file: Path, what: str) -> str | None:
    """What stands in a file that only its owner may read, without blanks around; `None` if absent.

    Raises ConfigError when it cannot be read, or when others may read it.
    """
    try:
        text = file.read_text(encoding="utf-8").strip()
        mode = stat.S_IMODE(file.stat().st_mode)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {what} in {file}: {error}") from error
    if mode & 0o077:
        raise ConfigError(f"{file} may be read by others: chmod 600 {file}")
    return text


def temporary_files(folder: Path) -> Iterator[Path]:
    """Files that `write_atomic` is writing in a folder, or left there when it was killed."""
    return folder.glob(f"{_TEMPORARY_PREFIX}*{_TEMPORARY_SUFFIX}")


def remove_temporary(folder: Path) -> None:
    """Remove what `write_atomic` left in a folder when the process was killed."""
    for path in temporary_files(folder):
        path.unlink(missing_ok=True)


def move_new(source: Path, target: Path, target_folder: int = _AT_FDCWD) -> None:
    """Rename in one step, never over another file; `target` may be below an open folder.

    Raises FileExistsError when `target` is there. Where the filesystem does not know the flag
    (renameat2(2): EINVAL, NFS says so) the film gets its second name before it loses the first: a
    kill between the two leaves both, never neither.
    """
    names = os.fsencode(source), os.fsencode(target)
    renameat2 = getattr(_libc, "renameat2", None)  # musl has none
    if renameat2 and not renameat2(_AT_FDCWD, names[0], target_folder, names[1], _RENAME_NOREPLACE):
        return
    number = ctypes.get_errno() if renameat2 else errno.ENOSYS
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(source), None, str(target))
    try:
        os.link(source, target, dst_dir_fd=target_folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        _look_then_rename(source, target, target_folder)  # no hard links here either
        return
    source.unlink()


def _look_then_rename(source: Path, target: Path, target_folder: int) -> None:
    """The last resort: not one step, but a site has one worker."""
    with suppress(FileNotFoundError):
        os.stat(target, dir_fd=target_folder, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target, dst_dir_fd=target_folder)


def sync_folder(path: Path) -> None:
    """Make renames within a folder survive a power loss."""
    _sync(path, os.O_DIRECTORY)


def sync_filesystem(path: Path) -> None:
    """Make everything that was written to the filesystem of a folder survive a power loss.

    syncfs(2). Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def sync_all(files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Make the content of files and the names in folders survive a power loss.

    Files that may not be read, or are gone, are passed over: whoever reads them will say so.
    """
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        list(pool.map(_sync_content, files))
        list(pool.map(sync_folder, folders))


def _sync_content(path: Path) -> None:
    try:
        _sync(path, os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in (*_ABOUT_THE_FILE, errno.ENOENT, errno.EINVAL):
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
