"""The site's mark: a small file that tells a mounted share from the bare folder beneath it.

`work/.site` and `reports/.site` hold the mark that the database knows. When a share is gone, its
mount point may be an empty folder, or hold folders of the same names: nothing there may be taken
for an empty inbox, or written into.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Site
from worker.errors import ShareGone
from worker.filesystem import sync_folder, write_atomic
from worker.store.mark import add_site_mark, keep_site_mark, marking, site_mark, site_marks

MARK = ".site"
_MOVED_WITHIN = ("inbox", "done", "failed")  # they share work's filesystem: films move by rename


def keep_marks(site: Site, engine: Engine, now: datetime) -> str:
    """Mark a site that has no mark yet; return the mark.

    The files come before the row: a site that was marked halfway takes the mark it finds.
    """
    mark = site_mark(engine)
    if mark is None:
        ours = _read(site.work) or uuid.uuid4().hex
        _mark(site, ours)
        mark = keep_site_mark(engine, ours, now)
        if mark != ours:  # another worker was faster
            _mark(site, mark)
    return mark


def join_site(site: Site, engine: Engine, remembered: Path, now: datetime) -> str:
    """The mark of work/, among those of a database that several sites may share.

    All have the reports/ of the first. A work/ without a mark becomes another site, unless this
    host has `remembered` a mark: then its share is gone. Raises ShareGone.
    """
    with marking(engine):
        keep_marks(site, engine, now)
        marks = site_marks(engine)
        before, mark = _content(remembered), _read(site.work)
        if mark is None and before is None:
            require_marks(site, {"reports": marks})
            mark = uuid.uuid4().hex
            _mark(site, mark, ["work"])
            add_site_mark(engine, mark, now)
        require_marks(site, {"work": [before] if before else site_marks(engine), "reports": marks})
        if before is None:
            write_atomic(remembered, f"{mark}\n".encode(), 0o600, sync=True)
    return str(mark)


def require_marks(site: Site, marks: Mapping[str, Sequence[str]]) -> None:
    """Raise ShareGone unless every folder of the site is the one that was marked.

    `marks` gives those that work/ and reports/ may hold.
    """
    device = site.work.stat().st_dev
    strange = [name for name in _MOVED_WITHIN if getattr(site, name).stat().st_dev != device]
    if strange:
        raise ShareGone(
            f"site.{strange[0]} is not on the filesystem of site.work any more: "
            "if a share is not mounted, mount it"
        )
    for name, known in marks.items():
        found = _read(getattr(site, name))
        if found not in known:
            raise ShareGone(
                f"site.{name} does not hold this site's mark ({MARK}): if a share is not mounted "
                "there, mount it; if the folder was made anew, write this line into "
                f"{name}/{MARK}: {known[0]}"
            )


def require_this_site(site: Site, engine: Engine) -> Callable[[], None]:
    """What checks the marks of this site whenever it is called; checks once now."""
    marks = site_marks(engine)

    def check() -> None:
        if marks:
            require_marks(site, {"work": marks, "reports": marks})

    check()
    return check


def _mark(site: Site, mark: str, names: Sequence[str] = ("work", "reports")) -> None:
    for folder in (getattr(site, name) for name in names):
        write_atomic(folder / MARK, f"{mark}\n".encode(), int(site.file_mode, 8), sync=True)
        sync_folder(folder)


def _read(folder: Path) -> str | None:
    return _content(folder / MARK)


def _content(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip() or None
    except FileNotFoundError:
        return None
