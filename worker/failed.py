"""What an operator does with failures: give a film back to the inbox, or put a failure aside.

A retry is written down before the film moves and after it: wherever it is cut off, the film lies
in failed/ or in the inbox, and `settle_interrupted` makes the database say which.
"""

import os
import stat
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Site
from worker.errors import StaleFailure
from worker.filesystem import sync_folder
from worker.intake.deliver import deliver
from worker.intake.shelf import SIDECAR_SUFFIX
from worker.marks import MARK
from worker.store.failures import Failing, failures, is_of_site, owner_in_failed, resolve
from worker.store.mark import site_marks


def retry(site: Site, engine: Engine, failing: Failing, now: datetime) -> Path | None:
    """Move a failed film back into the inbox, never over another; return where it lies now.

    A file of an archive is only marked (`None`): the next backfill of it tries it again.
    Raises StaleFailure when its film is not where the database says, OSError when the share
    refuses; the failure stands then.
    """
    _require_here(failing)
    if not failing.of_inbox:
        resolve(engine, failing.id, "retried", now)
        return None
    film = film_of(site, engine, failing)
    resolve(engine, failing.id, "retrying", now)
    place = _give_back(site, film, failing)
    sync_folder(place.parent)
    _forget(film)
    resolve(engine, failing.id, "retried", now)
    return place


def discard(
    site: Site, engine: Engine, failing: Failing, now: datetime, *, delete: bool = False
) -> None:
    """Let a failure stand no longer; with `delete` its film and sidecar are removed as well.

    Without `delete` the film stays in failed/ and can still be retried. Raises StaleFailure, and
    changes nothing, when the film to be deleted is not where the database says.
    """
    _require_here(failing)
    if delete and not failing.of_inbox:
        raise StaleFailure(f"file {failing.id} lies in an archive, and archives are never changed")
    film = film_of(site, engine, failing) if delete else None
    resolve(engine, failing.id, "discarded", now)
    if film is not None:
        film.unlink(missing_ok=True)
        _forget(film)


def settle_interrupted(site: Site, engine: Engine, now: datetime) -> int:
    """Bring retries that were cut off to one of their two ends; how many there were.

    Those of other sites that share the database are left to them: their films lie elsewhere.
    """
    mark = site_of_several(site, engine)
    begun = failures(engine, resolution="retrying", site_mark=mark)
    for failing in begun:
        film = site.failed / str(failing.name)
        own = owner_in_failed(engine, film.name, mark) == failing.id
        if own and os.path.lexists(film):
            resolve(engine, failing.id, None, now)
            continue
        if own:  # it had been moved: only what comes after was missing
            _forget(film)
        resolve(engine, failing.id, "retried", now)
    return len(begun)


def site_of_several(site: Site, engine: Engine) -> str | None:
    """The mark of this site, where several share the database; `None` where it is the only one.

    Without a mark in work/, as under a share that is gone, it is empty: then no film is its own.
    """
    if len(site_marks(engine)) < 2:
        return None
    try:
        return (site.work / MARK).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return ""


def film_of(site: Site, engine: Engine, failing: Failing) -> Path:
    """Where the film of a failure lies in failed/. Raises StaleFailure when it does not."""
    which = f"file {failing.id}"
    mark = site_of_several(site, engine)
    if mark is not None and not is_of_site(engine, failing.id, mark):
        raise StaleFailure(f"{which} lies in failed/ of another site: say it on a host of that one")
    if failing.claim and (site.work / failing.claim).is_dir():
        raise StaleFailure(f"{which} is still on its way to failed/: try again in a moment")
    name = str(failing.name)
    if (owner := owner_in_failed(engine, name, mark)) not in (None, failing.id):
        raise StaleFailure(f"{which} is no longer in failed/: file {owner} has its name now")
    film = site.failed / name
    try:
        status = film.stat(follow_symlinks=False)
    except FileNotFoundError as error:
        raise StaleFailure(
            f"{which} is no longer in failed/ under the name it was given there: rename it back, "
            f"or if it was moved or deleted, 'screen failed discard {failing.id}'"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise StaleFailure(f"{which}: what bears its name in failed/ is no regular file")
    return film


def _require_here(failing: Failing) -> None:
    if failing.resolution == "retried":
        raise StaleFailure(f"file {failing.id} was given back for another try already")


def _give_back(site: Site, film: Path, failing: Failing) -> Path:
    """Move a film to its old place in the inbox, else to the inbox itself; never over another."""
    given = site.inbox / failing.file
    folder = given.parent if _is_below(site.inbox, given.parent) else site.inbox
    numbered = f"{film.stem}-{failing.id}{film.suffix}"
    place = deliver(film, folder, (given.name, film.name, numbered, f"film-{failing.id}"))
    if place is None:
        raise StaleFailure(
            f"file {failing.id}: every name for it in the inbox is taken; wait for the worker"
        )
    return place


def _is_below(inbox: Path, folder: Path) -> bool:
    """Whether a folder of the inbox is still there, and no link leads out of it."""
    return folder.is_dir() and folder.resolve() == inbox.resolve() / folder.relative_to(inbox)


def _forget(film: Path) -> None:
    """Remove the sidecar of a film that left failed/, for good."""
    film.with_name(film.name + SIDECAR_SUFFIX).unlink(missing_ok=True)
    sync_folder(film.parent)
