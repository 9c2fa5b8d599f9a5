"""What kind of filesystem a path lies on, and writing files so that a crash leaves no half."""

import os
import tempfile
from pathlib import Path

_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ncpfs", "davfs"),
        *("ceph", "glusterfs", "lustre", "beegfs", "gpfs", "fuse.ceph", "fuse.glusterfs"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.davfs"),
    }
)


_TEMPORARY_PREFIX, _TEMPORARY_SUFFIX = ".screen-", ".tmp"


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


def write_atomic(path: Path, data: bytes, mode: int, *, sync: bool = False) -> None:
    """Write under a temporary name and rename, so that `path` is whole or absent.

    With `sync` the content is on the disk before the rename; the folder is the caller's.
    Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(_TEMPORARY_SUFFIX, _TEMPORARY_PREFIX, path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            if sync:
                os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_temporary(folder: Path) -> None:
    """Remove what `write_atomic` left in a folder when the process was killed."""
    for path in folder.glob(f"{_TEMPORARY_PREFIX}*{_TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make renames within a folder survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
