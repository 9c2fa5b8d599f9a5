"""The site's mark: a small file that tells a mounted share from the bare folder beneath it.

`work/.site` and `reports/.site` hold the mark that the database knows. When a share is gone, its
mount point may be an empty folder, or hold folders of the same names: nothing there may be taken
for an empty inbox, or written into.
"""

import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Site
from worker.errors import ShareGone
from worker.filesystem import sync_folder, write_atomic
from worker.store.mark import keep_site_mark, site_mark

MARK = ".site"
_MOVED_WITHIN = ("inbox", "done", "failed")  # they share work's filesystem: films move by rename


def keep_marks(site: Site, engine: Engine, now: datetime) -> str:
    """Mark a site that has no mark yet; return the mark.

    The files come before the row: a site that was marked halfway takes the mark it finds.
    """
    mark = site_mark(engine)
    if mark is None:
        ours = _read(site.work) or uuid.uuid4().hex
        _write(site, ours)
        mark = keep_site_mark(engine, ours, now)
        if mark != ours:  # another worker was faster
            _write(site, mark)
    return mark


def _write(site: Site, mark: str) -> None:
    for folder in (site.work, site.reports):
        content = (mark + "\n").encode()
        write_atomic(folder / MARK, content, int(site.file_mode, 8), sync=True)
        sync_folder(folder)


def require_marks(site: Site, mark: str) -> None:
    """Raise ShareGone unless every folder of the site is the one that was marked."""
    device = site.work.stat().st_dev
    strange = [name for name in _MOVED_WITHIN if getattr(site, name).stat().st_dev != device]
    if strange:
        raise ShareGone(
            f"site.{strange[0]} is not on the filesystem of site.work any more: "
            "if a share is not mounted, mount it"
        )
    for name in ("work", "reports"):
        found = _read(getattr(site, name))
        if found != mark:
            raise ShareGone(
                f"site.{name} does not hold this site's mark ({MARK}): if a share is not mounted "
                "there, mount it; if the folder was made anew, write this line into "
                f"{name}/{MARK}: {mark}"
            )


def require_this_site(site: Site, engine: Engine) -> Callable[[], None]:
    """What checks the marks of this site whenever it is called; checks once now."""
    mark = site_mark(engine)

    def check() -> None:
        if mark is not None:
            require_marks(site, mark)

    check()
    return check


def _read(folder: Path) -> str | None:
    try:
        return (folder / MARK).read_text(encoding="ascii", errors="replace").strip() or None
    except FileNotFoundError:
        return None
