"""Take up what silent workers left in the folders of a site.

Others may be at work there: what looks left behind is taken up only when it has looked so for as
long as a lease, in which a living worker would have gone on.
"""

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine

from worker.cluster.shelves import SharedShelves
from worker.config import Site
from worker.filesystem import temporary_files
from worker.intake.found import Found
from worker.intake.names import is_temporary
from worker.intake.shelf import remove_claim
from worker.recovery import unrecorded
from worker.report.site import report_folders
from worker.store.work import claimed_files, finished_files

_REPORTS_EVERY_S = 3600.0  # reports/ has very many files
_Key = TypeVar("_Key", bound=Hashable)


class Sweep:
    """Remembers since when things have looked left behind. `now` is monotonic seconds."""

    def __init__(
        self,
        engine: Engine,
        site: Site,
        shelves: SharedShelves,
        patience_s: float,
        now: Callable[[], float],
    ) -> None:
        self._engine, self._site, self._shelves = engine, site, shelves
        self._patience_s, self._now = patience_s, now
        self._claims: dict[tuple[Path, bool], float] = {}
        self._temporary: dict[Path, float] = {}
        self._reports_at = float("-inf")

    def claims(self) -> list[Found]:
        """Films in work/ that nobody recorded. What ended and was not moved is put away.

        Raises OSError or StoreError.
        """
        folders = [path for path in self._site.work.iterdir() if path.is_dir()]
        known = claimed_files(self._engine, [folder.name for folder in folders])
        left = ((folder, folder.name in known) for folder in folders)
        left = (
            (folder, is_known) for folder, is_known in left if not is_known or known[folder.name][1]
        )
        old = self._old(self._claims, left)
        for folder, is_known in old:
            if is_known:
                item, _ = known[folder.name]
                ended = finished_files(self._engine, [item.id])
                self._shelves.put_away(item, ended[item.id])
        films = [_film_in(folder) for folder, is_known in old if not is_known]
        return [film for film in films if film]

    def temporary(self) -> None:
        """Remove half-written files. Raises OSError."""
        folders = [self._site.failed, self._site.work]
        waits = [path for path in self._temporary if path.parent not in folders]
        if waits or self._now() >= self._reports_at:
            self._reports_at = self._now() + _REPORTS_EVERY_S
            folders += report_folders(self._site)
        files = [path for folder in folders for path in temporary_files(folder)]
        for path in self._old(self._temporary, files):
            path.unlink(missing_ok=True)

    def _old(self, since: dict[_Key, float], there: Iterable[_Key]) -> list[_Key]:
        """What has been there for long; `since` is brought up to date."""
        now = self._now()
        seen = {each: since.get(each, now) for each in there}
        since.clear()
        since.update(seen)
        return [each for each, first in seen.items() if now - first >= self._patience_s]


def _film_in(folder: Path) -> Found | None:
    """The film of a claim; an empty folder is removed."""
    films = [path for path in folder.iterdir() if not is_temporary(path.name)]
    if not films:
        remove_claim(folder)
        return None
    return unrecorded(films[0])
