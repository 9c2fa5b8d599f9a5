"""The inbox: look, let settle, claim by rename. The scan decides; events only wake it."""

import errno
import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.config import Site, Watch
from worker.filesystem import is_network
from worker.folders import display_name, regular_files
from worker.imaging.sniff import is_complete
from worker.intake.found import INBOX, Found

log = logging.getLogger(__name__)

_THIS_FILE_ONLY = (errno.EACCES, errno.EPERM, errno.EXDEV)  # others speak of the whole share
_TRY_AGAIN_S = 60.0  # with files that could not be moved: somebody may have mended their rights
_LOOKS = 3  # a file is settled after this many equal looks at the least
_TEMPORARY_SUFFIXES = (".part", ".filepart", ".crdownload", ".tmp", ".temp", ".partial", ".swp")


@dataclass(frozen=True)
class Signature:
    """What must stay the same while a file settles; any write changes one of them."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "Signature":
        """Signature of a file, links not followed. Raises OSError when it is gone."""
        status = path.stat(follow_symlinks=False)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass
class _Candidate:
    signature: Signature
    since: float
    looks: int = 1


@dataclass(frozen=True)
class Look:
    """One look at the inbox: files by what can be done with them.

    They are ready to be claimed, still changing, settled but incomplete, or untakable: the
    system does not let us move them.
    """

    ready: tuple[Path, ...]
    unsettled: tuple[Path, ...]
    incomplete: tuple[Path, ...]
    untakable: tuple[Path, ...] = ()


class Inbox:
    """What is known of the files in the inbox between two looks.

    Time comes in as monotonic seconds: the file server's clock is not ours.
    """

    def __init__(
        self, site: Site, watch: Watch, complete: Callable[[Path], bool] = is_complete
    ) -> None:
        self._site, self._watch, self._complete = site, watch, complete
        self._candidates: dict[Path, _Candidate] = {}
        self._untakable: dict[Path, Signature] = {}
        self._untakable_since = 0.0
        self._unlistable: set[str] = set()
        self.settle_s = watch.settle_network_s if is_network(site.inbox) else watch.settle_s

    def look(self, now: float) -> Look:
        """Scan the inbox. Raises OSError when it cannot be read: absence says nothing of films."""
        ready, unsettled, incomplete, untakable = [], [], [], []
        if now - self._untakable_since >= _TRY_AGAIN_S:
            self._untakable, self._untakable_since = {}, now
        seen = {}
        self._site.inbox.stat()  # raises when the share is gone
        for path in regular_files(self._site.inbox, self._pass_over):
            if any(map(is_temporary, path.relative_to(self._site.inbox).parts)):
                continue
            try:
                candidate = self._update(path, now)
            except FileNotFoundError:
                continue
            seen[path] = candidate
            age = now - candidate.since
            if self._untakable.get(path) == candidate.signature:
                untakable.append(path)
            elif candidate.looks < _LOOKS or age < self.settle_s:
                unsettled.append(path)
            elif self._is_complete(path) or age >= self._watch.incomplete_after_s:
                ready.append(path)
            else:
                incomplete.append(path)
        self._candidates = seen
        return Look(tuple(ready), tuple(unsettled), tuple(incomplete), tuple(untakable))

    def _pass_over(self, error: OSError) -> None:
        """Pass over a sub-folder that cannot be listed, saying so once; not the inbox itself."""
        if Path(error.filename) == self._site.inbox:
            raise error
        if error.filename not in self._unlistable and not isinstance(error, FileNotFoundError):
            self._unlistable.add(error.filename)
            log.warning("a folder in the inbox cannot be listed: %s", error.strerror)

    def _update(self, path: Path, now: float) -> _Candidate:
        signature = Signature.of(path)
        candidate = self._candidates.get(path)
        if candidate is None or candidate.signature != signature:
            return _Candidate(signature, now)
        candidate.looks += 1
        return candidate

    def _is_complete(self, path: Path) -> bool:
        try:
            return self._complete(path)
        except OSError:
            return True  # the decoder will say why it cannot be read

    def claim(self, path: Path) -> Found | None:
        """Move a ready file to a folder of its own below work/; `None` if it was not to be had.

        A file that changed since the last look goes back and settles again; one that the system
        does not let us move is left until it changes. Raises OSError when the share refuses.
        """
        candidate = self._candidates.pop(path, None)
        if candidate is None:
            return None
        claim = uuid.uuid4().hex
        folder = self._site.work / claim
        folder.mkdir(mode=int(self._site.dir_mode, 8))
        claimed = folder / path.name
        try:
            path.rename(claimed)
        except FileNotFoundError:
            folder.rmdir()
            return None
        except OSError as error:
            folder.rmdir()
            if error.errno not in _THIS_FILE_ONLY:
                raise
            self._untakable[path] = candidate.signature
            log.warning("a file cannot be taken from the inbox: %s", error.strerror)
            return None
        if Signature.of(claimed) != candidate.signature:
            log.info("a file was still being written, it goes back", extra={"claim": claim})
            put_back(claimed, path)
            return None
        name = display_name(path.relative_to(self._site.inbox))
        signature = candidate.signature
        return Found(INBOX, name, claimed, signature.size, signature.mtime_ns, claim)


def put_back(claimed: Path, path: Path) -> None:
    """Return a claimed file to the inbox without overwriting a newer one of the same name."""
    try:
        os.link(claimed, path)
        claimed.unlink()
    except FileExistsError:
        claimed.rename(path.with_name(f"{path.stem}-{claimed.parent.name}{path.suffix}"))
    except OSError:  # the share knows no hard links
        claimed.rename(path)
    claimed.parent.rmdir()


def is_temporary(name: str) -> bool:
    """Whether a name says that a tool is still writing: dot files, `~`, `.part` and such."""
    return name.startswith(".") or name.endswith("~") or name.lower().endswith(_TEMPORARY_SUFFIXES)
