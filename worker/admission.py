"""Let a recorded file into the pipeline: its SHA-256, or why it may not be decoded."""

import errno
import os
from collections import Counter

from worker.config import Config
from worker.errors import FilmError, Quarantined, UnreadableFile
from worker.filesystem import sha256_of, works
from worker.store.work import Item

_WORKER_CRASHES_LIMIT = 5  # of the whole worker, with this film in hand, of itself; not kills
_ABOUT_THE_DISK = (errno.EIO, errno.EUCLEAN, errno.EBADMSG)  # a bad sector, a broken checksum
_REFUSALS = 3  # by the disk, with pauses between, before one file is told from the whole share


class Admission:
    """Remembers which files the disk refuses, from batch to batch."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._refusals: Counter[int] = Counter()  # item id → how often the disk refused it

    def admit(self, item: Item) -> tuple[str | None, FilmError | None]:
        """SHA-256 of a file, as far as it can be read, and why it may not be decoded.

        Raises OSError when the disk or the share refuses: no film is to blame then.
        """
        if item.refused:
            return None, item.refused
        try:
            sha256 = sha256_of(item.found.path, self._config.decode.max_file_mb << 20)
        except FilmError as error:
            return None, error
        except OSError as error:
            if error.errno not in _ABOUT_THE_DISK or not self._is_damaged(item):
                raise
            return None, UnreadableFile(
                f"the disk cannot read this one file ({os.strerror(error.errno or 0)}): check the "
                "disk, then feed it in again"
            )
        return sha256, self._troublemaker(item)

    def _troublemaker(self, item: Item) -> Quarantined | None:
        """A film at its limit; when that was reached, a kill may have come before it was said."""
        if item.strikes >= self._config.decode.strikes:
            return Quarantined(f"after {item.strikes} strikes: look at it by hand")
        if item.worker_crashes >= _WORKER_CRASHES_LIMIT:
            return Quarantined(
                f"the worker crashed {item.worker_crashes} times while it held this film: look at "
                "it by hand, then drop it into the inbox again"
            )
        return None

    def _is_damaged(self, item: Item) -> bool:
        """Whether the disk refuses this one file again and again while the rest of it works.

        An archive is not written into, and a file of it is tried again by the next backfill.
        """
        if not item.found.claim:
            return True
        self._refusals[item.id] += 1
        return self._refusals[item.id] >= _REFUSALS and works(self._config.site.work)
