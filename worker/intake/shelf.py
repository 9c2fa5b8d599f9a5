"""Where files end: free names in done/ and failed/, and the move there."""

import errno
import json
import os
from collections.abc import Container
from pathlib import Path

from worker.config import Site
from worker.failpoints import reach
from worker.filesystem import move_new, sync_folder, write_atomic
from worker.folders import display_name

_LONGEST_NAME_BYTES = 255
SIDECAR_SUFFIX = ".json"


def free_name(folder: Path, name: str, file_id: int, taken: Container[str]) -> str:
    """A name that is free in `folder`, for the file and a sidecar: its own, else with its number.

    The extension is kept; names stay within 255 bytes with the sidecar's suffix, and are text that
    the database can hold.
    """
    name = display_name(Path(name))
    stem, extension = Path(name).stem, Path(name).suffix
    for candidate in (name, f"{stem}-{file_id}{extension}", f"film-{file_id}{extension}"):
        sidecar = candidate + SIDECAR_SUFFIX
        if len(os.fsencode(sidecar)) > _LONGEST_NAME_BYTES:
            continue
        names = (candidate, sidecar)
        if not any(each in taken or os.path.lexists(folder / each) for each in names):
            return candidate
    return f"film-{file_id}"


def put_away(claimed: Path, target: Path) -> None:
    """Move a claimed file to its final name and remove its folder in work/; again is harmless.

    Raises FileExistsError when another file has that name.
    """
    if claimed.exists():
        if target.exists() and target.samefile(claimed):  # a kill came between its two names
            claimed.unlink()
        else:
            move_new(claimed, target)
        reach("film-moved")
    remove_claim(claimed.parent)
    reach("claim-removed")


def remove_claim(folder: Path) -> None:
    """Remove an emptied folder of work/; what others left in it (`.nfs…`) stays for later."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def write_sidecar(site: Site, final_name: str, facts: dict[str, object]) -> None:
    """Write the JSON beside a failed file that says why it failed; it survives a power loss."""
    text = json.dumps(facts, indent=2)
    path = site.failed / (final_name + SIDECAR_SUFFIX)
    write_atomic(path, text.encode() + b"\n", int(site.file_mode, 8), sync=True)
    sync_folder(site.failed)
    reach("sidecar-synced")
