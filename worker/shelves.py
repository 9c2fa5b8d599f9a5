"""Move finished films out of work/: to done/, or to failed/ after their sidecars."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Site
from worker.intake.shelf import SIDECAR_SUFFIX, free_name, put_away, write_sidecar
from worker.store.work import Finished, Item, rename_finished


@dataclass(frozen=True)
class Shelves:
    """Final names for claimed files, and the way there; within a batch no name is given twice."""

    site: Site
    engine: Engine
    given: set[Path] = field(default_factory=set)

    def name_for(self, item: Item, failed: bool) -> str:
        """A free name in done/ or failed/."""
        folder = self.site.failed if failed else self.site.done
        taken = {path.name for path in self.given if path.parent == folder}
        name = free_name(folder, item.found.path.name, item.id, taken)
        self.given.update((folder / name, folder / (name + SIDECAR_SUFFIX)))
        return name

    def put_away(self, item: Item, finished: Finished) -> None:
        """Move a finished file to where the database says that it belongs.

        Again is harmless. Raises OSError or StoreError.
        """
        folder = self.site.failed if finished.failure else self.site.done
        name, claimed = finished.final_name, item.found.path
        if claimed.exists() and _is_taken(folder / name, claimed):  # since it was chosen
            name = free_name(folder, claimed.name, item.id, ())
            rename_finished(self.engine, item.id, name)
        if finished.failure:
            write_sidecar(self.site, name, finished.failure)
        put_away(claimed, folder / name)


def _is_taken(target: Path, claimed: Path) -> bool:
    """Whether another file has this name; not so the film itself, under its second name."""
    return os.path.lexists(target) and not (target.exists() and target.samefile(claimed))
