"""Return a claimed file to the inbox."""

import contextlib
import errno
import logging
import os
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
log = logging.getLogger(__name__)


def put_back(claimed: Path, folder: int, name: str) -> bool:
    """Return a claimed file to its folder (a descriptor), overwriting nothing; true if it went.

    A newer file keeps the name: the older one gets its claim's. What cannot go back stays claimed,
    and is screened as it is: better a half film that fails with a reason than one that is lost.
    """
    for free in (name, claimed.parent.name + Path(name).suffix):
        try:
            _move(claimed, folder, free)
        except FileExistsError:
            continue
        except OSError as error:
            log.warning("a claimed file cannot go back: %s", os.strerror(error.errno or 0))
            return False
        with contextlib.suppress(OSError):  # empty folders of work/ are removed at the next start
            claimed.parent.rmdir()
        return True
    return False


def _move(claimed: Path, folder: int, name: str) -> None:
    """Move by link and unlink, which never overwrite; by rename where there are no hard links."""
    try:
        os.link(claimed, name, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if _exists(folder, name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        os.rename(claimed, name, dst_dir_fd=folder)
        return
    try:
        claimed.unlink()
    except OSError:
        os.unlink(name, dir_fd=folder)  # one film under two names would be screened twice
        raise


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
