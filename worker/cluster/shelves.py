"""Move finished films to done/ and failed/ while others do the same.

The filesystem arbitrates, since no lock holds a worker that was paused: film and sidecar are
moved in under names that nobody has, never over another. A second name is noted only if nobody
noted one meanwhile.
"""

import json
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from worker.filesystem import move_new, sync_folder, write_atomic
from worker.intake.shelf import SIDECAR_SUFFIX, free_name, put_away, remove_claim
from worker.shelves import Shelves
from worker.store.work import Finished, Item, finished_file, rename_finished

_ATTEMPTS = 20  # at a name; each is lost to another worker that was quicker


@dataclass(frozen=True)
class SharedShelves(Shelves):
    """As `Shelves`, beside others who put the same films away, or others under the same names."""

    def put_away(self, item: Item, finished: Finished) -> None:
        """Move a finished file to where the database says that it belongs.

        Again is harmless, also at the same time. Raises OSError or StoreError.
        """
        for _ in range(_ATTEMPTS):
            claimed = item.found.path
            if not claimed.exists():
                remove_claim(claimed.parent)
                return
            if self._moved(claimed, finished):
                return
            self._rename(item, finished)
            finished = finished_file(self.engine, item.id) or finished
        raise FileExistsError(f"no free name after {_ATTEMPTS} attempts")

    def _moved(self, claimed: Path, finished: Finished) -> bool:
        """Whether the film lies under its name now; false when another has that."""
        folder = self.site.failed if finished.failure else self.site.done
        target, sidecar = folder / finished.final_name, None
        if finished.failure:
            sidecar = target.with_name(target.name + SIDECAR_SUFFIX)
            if not self._has_sidecar(sidecar, finished.failure):
                return False
        try:
            put_away(claimed, target)
        except FileExistsError:
            if sidecar:
                sidecar.unlink(missing_ok=True)
            return False
        except FileNotFoundError:  # another worker has moved it just now
            remove_claim(claimed.parent)
        return True

    def _has_sidecar(self, path: Path, facts: dict[str, object]) -> bool:
        """Whether the sidecar is there and this film's; written unless another has its name."""
        text = json.dumps(facts, indent=2).encode() + b"\n"
        draft = path.with_name(f".screen-{uuid.uuid4().hex}.tmp")
        write_atomic(draft, text, int(self.site.file_mode, 8), sync=True)
        try:
            move_new(draft, path)
        except FileExistsError:
            with suppress(OSError):
                return path.read_bytes() == text
            return False
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)
        return True

    def _rename(self, item: Item, finished: Finished) -> None:
        folder = self.site.failed if finished.failure else self.site.done
        name = free_name(folder, item.found.path.name, item.id, ())
        rename_finished(self.engine, item.id, name, instead_of=finished.final_name)
