"""Take up what an earlier worker left: claims, waiting files, moves, temporary files, pages."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Site
from worker.failpoints import reach
from worker.filesystem import remove_temporary
from worker.folders import display_name
from worker.intake.found import INBOX, Found
from worker.intake.names import is_temporary
from worker.intake.shelf import remove_claim
from worker.records import Identity
from worker.report.site import broken_pages, render_again, report_folders, settle_pages
from worker.store.dialect import is_server
from worker.store.work import Item, claimed_file, finished_file, waiting_files

log = logging.getLogger(__name__)


@dataclass
class TakenUp:
    """Files by what is left to do: to be recorded, to be screened, only to be moved."""

    claimed: list[Found] = field(default_factory=list)
    waiting: list[Item] = field(default_factory=list)
    finished: list[Item] = field(default_factory=list)


def take_up(site: Site, engine: Engine) -> TakenUp:
    """Find what is left to do in work/ and in the database. Again is harmless.

    Raises OSError or StoreError.
    """
    taken = TakenUp()
    waiting = {item.found.claim: item for item in waiting_files(engine, INBOX)}
    for folder in sorted(path for path in site.work.iterdir() if path.is_dir()):
        _take_up_claim(folder, engine, waiting, taken)
    taken.waiting = list(waiting.values())
    reach("recovery-taken-up")
    return taken


def remove_half_written(site: Site) -> None:
    """Remove what a kill, or a share that went, left of files that were being written."""
    for folder in [*report_folders(site), site.failed, site.work]:
        remove_temporary(folder)


def tidy(
    site: Site,
    engine: Engine,
    alive: Callable[[], None] = lambda: None,
    *,
    identity: Identity = "off",
) -> None:
    """Remove half-written files, render pages that are missing or cut short. Again is harmless.

    On PostgreSQL others may be writing: `worker.cluster.sweep` removes what is left there.
    `alive` is called before each page, and while the disk takes its time. Raises OSError or
    StoreError.
    """
    if not is_server(engine):
        remove_half_written(site)
    mend_pages(site, engine, alive, identity=identity)
    reach("recovery-tidied")


def mend_pages(
    site: Site, engine: Engine, alive: Callable[[], None], *, identity: Identity
) -> None:
    """Render pages that are missing or cut short; all are synced then. As `tidy`."""
    broken = broken_pages(site, engine)
    without = render_again(site, engine, broken, alive, identity=identity)
    settle_pages(site, engine, alive)
    if broken:
        log.warning("rendered pages again", extra={"pages": len(broken) - len(without)})
    if without:
        log.warning("pages lack their picture", extra={"pages": len(without)})


def _take_up_claim(folder: Path, engine: Engine, waiting: dict[str, Item], taken: TakenUp) -> None:
    """One folder of work/: empty, claimed but not recorded, waiting, or only to be moved.

    The file counts where it lies now: the site may have been moved since it was recorded.
    """
    item = claimed_file(engine, folder.name)
    known = folder / item.found.path.name if item else None
    files = [path for path in folder.iterdir() if path == known or not is_temporary(path.name)]
    if not files:
        remove_claim(folder)
        return
    path = known if known in files else files[0]
    if item is None:
        taken.claimed.append(unrecorded(path))
        return
    here = replace(item, found=replace(item.found, path=path))
    if folder.name in waiting:
        waiting[folder.name] = here
    elif finished_file(engine, item.id):
        taken.finished.append(here)


def unrecorded(path: Path) -> Found:
    """A film in the folder of its claim that the database does not know yet. Raises OSError."""
    status = path.stat(follow_symlinks=False)
    name = display_name(Path(path.name))
    size, mtime_ns = status.st_size, status.st_mtime_ns
    return Found(INBOX, name, path, size, mtime_ns, path.parent.name)
