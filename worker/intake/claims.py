"""A film on its way between inbox/ and a folder of its own in work/."""

import contextlib
import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from worker.config import Site
from worker.failpoints import reach
from worker.filesystem import move_new, sync_all
from worker.intake.found import Found

log = logging.getLogger(__name__)


def move_in(folder: int, name: str, claimed: Path) -> None:
    """Rename a file of the inbox (in the folder of a descriptor) into the new folder of a claim.

    Raises OSError with the file where it was and no folder left behind.
    """
    try:
        os.rename(name, claimed, src_dir_fd=folder)
    except OSError:
        if os.path.lexists(claimed):
            return  # NFS: the server did it, its answer was lost, and the retry found nothing
        with contextlib.suppress(OSError):  # empty folders of work/ are removed at the next start
            claimed.parent.rmdir()
        raise
    reach("claim-renamed")


def put_back(claimed: Path, folder: int, name: str) -> bool:
    """Return a claimed file to its folder (a descriptor), overwriting nothing; true if it went.

    A newer file keeps the name: the older one gets its claim's. What cannot go back stays claimed,
    and is screened as it is: better a half film that fails with a reason than one that is lost.
    """
    for free in (name, claimed.parent.name + Path(name).suffix):
        try:
            move_new(claimed, Path(free), folder)
        except OSError as error:
            if error.errno == errno.EEXIST:
                continue
            log.warning("a claimed file cannot go back", extra={"errno": error.errno})
            return False
        reach("claim-put-back")
        with contextlib.suppress(OSError):
            claimed.parent.rmdir()
        return True
    return False


def secure(site: Site, claims: Sequence[Found]) -> None:
    """Make claims survive a power loss, before the database says that they are ours.

    Else a film could lie in the inbox again, or empty in work/, while its row says otherwise.
    Raises OSError.
    """
    if claims:
        given = {(site.inbox / found.file).parent for found in claims}
        folders = [found.path.parent for found in claims] + [site.work, site.inbox]
        sync_all([found.path for found in claims], folders + sorted(filter(Path.is_dir, given)))
        reach("claims-synced")
