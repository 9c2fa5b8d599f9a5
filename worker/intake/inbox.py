"""The inbox: look, let settle, claim by rename. The scan decides; events only wake it."""

import errno
import logging
import os
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from worker.config import Site, Watch
from worker.failpoints import reach
from worker.filesystem import is_network
from worker.folders import display_name, open_folder
from worker.imaging.sniff import is_complete
from worker.intake.claims import move_in, put_back
from worker.intake.found import INBOX, Found
from worker.intake.scan import TEMPORARY, scan

log = logging.getLogger(__name__)

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # or swapped for a link since the look
_UNREADABLE = (errno.EACCES, errno.EPERM)
# Others speak of the whole share. EBUSY, ETXTBSY: somebody on the share has the file open (SMB)
_THIS_FILE_ONLY = (*_UNREADABLE, errno.EXDEV, errno.EBUSY, errno.ETXTBSY, errno.EUCLEAN)
_TRY_AGAIN_S = 60.0  # with files that could not be moved: somebody may have mended their rights
_LOOKS = 3  # a file is settled after this many equal looks at the least
_LONGEST_GAP_S = 60.0  # between two looks; what we slept or were stopped beyond it ages no file
_READY_AT_ONCE = 1000  # films that one look hands out: the daemon stays answerable, memory flat
_ASK_AGAIN_SHARE = 0.1  # of its age, until an unchanged incomplete file is read again
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe never blocks


class Signature(NamedTuple):
    """What must stay the same while a file settles; any write changes one of them."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Signature":
        """Signature of a file by its status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(slots=True)
class _Candidate:
    signature: Signature
    age_s: float = 0.0  # for which it has stayed the same, as far as we were there to see
    looks: int = 1
    ask_at_s: float = 0.0  # age at which to ask again whether it is complete


@dataclass(frozen=True)
class Look:
    """One look at the inbox: files by what can be done with them.

    They are ready to be claimed, still changing (or next in turn: enough are ready), settled but
    incomplete, or untakable: the system does not let us move, ask or list them. `left_alone` counts
    what is no film for us, by kind.
    """

    ready: tuple[Path, ...]
    unsettled: tuple[Path, ...]
    incomplete: tuple[Path, ...]
    untakable: tuple[Path, ...]
    left_alone: dict[str, int]


class Inbox:
    """What is known of the files in the inbox between two looks.

    Time comes in as monotonic seconds: neither our wall clock nor the file server's counts.
    """

    def __init__(
        self, site: Site, watch: Watch, complete: Callable[[BinaryIO], bool] = is_complete
    ) -> None:
        self._site, self._watch, self._complete = site, watch, complete
        self._candidates: dict[str, _Candidate] = {}
        self._untakable: dict[str, tuple[Signature, str]] = {}  # path → of which, and why
        self._untakable_since = 0.0
        self._looked_at = 0.0
        self._warned: set[str] = set()  # paths that a warning has counted
        self.settle_s = watch.settle_network_s if is_network(site.inbox) else watch.settle_s

    def look(self, now: float) -> Look:
        """Scan the inbox. Raises OSError when it cannot be read: absence says nothing of films.

        Files settle from the beginning then: nobody could write to them either.
        """
        gap_s = min(now - self._looked_at, max(_LONGEST_GAP_S, 2 * self._watch.scan_interval_s))
        self._looked_at = now
        if now - self._untakable_since >= _TRY_AGAIN_S:
            self._untakable, self._untakable_since = {}, now
        before, self._candidates = self._candidates, {}
        left, troubles = dict[str, str](), dict[str, str]()  # path → kind, path → what is wrong
        sorted_by = _Sorted([], [], [])
        self._site.inbox.stat()  # raises when the share is gone
        for path, status in scan(
            self._site.inbox,
            lambda error: self._note(error, troubles),
            lambda kind, path: left.update({path: kind}),
        ):
            candidate = _aged(before.get(path), Signature.of(status), gap_s)
            self._candidates[path] = candidate
            signature, why = self._untakable.get(path, (None, ""))
            if signature == candidate.signature:
                troubles[path] = why
            else:
                self._sort(path, candidate, sorted_by)
        self._warn(left, troubles)
        return Look(
            tuple(map(Path, sorted_by.ready)),
            tuple(map(Path, sorted_by.unsettled)),
            tuple(map(Path, sorted_by.incomplete)),
            untakable=tuple(map(Path, troubles)),
            left_alone=dict(Counter(left.values())),
        )

    def _sort(self, path: str, candidate: _Candidate, sorted_by: "_Sorted") -> None:
        if (
            candidate.looks < _LOOKS
            or candidate.age_s < self.settle_s
            or len(sorted_by.ready) >= _READY_AT_ONCE
        ):
            sorted_by.unsettled.append(path)
        elif self._is_over(candidate) or self._is_complete(path, candidate):
            sorted_by.ready.append(path)
        else:
            sorted_by.incomplete.append(path)

    def _is_over(self, candidate: _Candidate) -> bool:
        """Whether a file has been waited for long enough, complete or not."""
        return candidate.age_s >= self._watch.incomplete_after_s

    def _is_complete(self, path: str, candidate: _Candidate) -> bool:
        """Whether a settled file is whole; what can be asked of no one is no longer waited for.

        The same bytes give the same answer, but a share may tell of a write late: they are read
        again, ever more seldom.
        """
        if candidate.age_s < candidate.ask_at_s:
            return False
        try:
            with os.fdopen(os.open(path, _OPEN_FLAGS), "rb") as file:
                complete = self._complete(file)
        except OSError as error:
            return error.errno in _UNREADABLE  # the decoder will say why it cannot be read
        if not complete:
            candidate.ask_at_s = candidate.age_s * (1 + _ASK_AGAIN_SHARE) + 1.0
        return complete

    def _note(self, error: OSError, troubles: dict[str, str]) -> None:
        """Pass over what cannot be listed or asked, such as a sub-folder; not the inbox itself."""
        if Path(error.filename) == self._site.inbox:
            raise error
        if error.errno != errno.ENOENT:
            troubles[error.filename] = os.strerror(error.errno or 0)

    def _warn(self, left: dict[str, str], troubles: dict[str, str]) -> None:
        """Say what is new among what is passed over: kind and count, never a name."""
        known, self._warned = self._warned, left.keys() | troubles.keys()
        kinds = Counter(kind for path, kind in left.items() if path not in known)
        for kind, count in kinds.items():
            if kind != TEMPORARY:
                log.warning("left alone in the inbox: %s", kind, extra={"count": count})
        reasons = Counter(why for path, why in troubles.items() if path not in known)
        for why, count in reasons.items():
            log.warning("the inbox holds what we may not take: %s", why, extra={"count": count})

    def claim(self, path: Path) -> Found | None:
        """Move a ready file to a folder of its own below work/; `None` if it was not to be had.

        A file that changed since the last look goes back and settles again; one that the system
        does not let us move is left until it changes. Raises OSError when the share refuses, and
        the file is where it was then.
        """
        candidate = self._candidates.pop(str(path), None)
        if candidate is None:
            return None
        try:
            folder = open_folder(self._site.inbox, path.relative_to(self._site.inbox).parts[:-1])
        except OSError as error:
            self._leave(path, candidate.signature, error)
            return None
        try:
            return self._claim_from(folder, path, candidate.signature)
        finally:
            os.close(folder)

    def _claim_from(self, folder: int, path: Path, signature: Signature) -> Found | None:
        """`claim`, given the descriptor of the file's folder."""
        claim = uuid.uuid4().hex
        claimed = self._site.work / claim / path.name
        try:
            now = Signature.of(os.stat(path.name, dir_fd=folder, follow_symlinks=False))
        except OSError as error:
            self._leave(path, signature, error)
            return None
        if now != signature:
            return None
        claimed.parent.mkdir(mode=int(self._site.dir_mode, 8))  # what it raises speaks of work/
        reach("claim-made")
        try:
            move_in(folder, path.name, claimed)
        except OSError as error:
            self._leave(path, signature, error)
            return None
        if _changed(claimed, signature) and put_back(claimed, folder, path.name):
            log.info("a file was still being written, it goes back", extra={"claim": claim})
            return None
        name = display_name(path.relative_to(self._site.inbox))
        return Found(INBOX, name, claimed, signature.size, signature.mtime_ns, claim)

    def _leave(self, path: Path, signature: Signature, error: OSError) -> None:
        """Leave a file that is gone, or that we may not move; raise what speaks of the share."""
        if error.errno not in (*_GONE, *_THIS_FILE_ONLY):
            raise error
        if error.errno in _THIS_FILE_ONLY:
            self._untakable[str(path)] = signature, os.strerror(error.errno)


class _Sorted(NamedTuple):
    ready: list[str]
    unsettled: list[str]
    incomplete: list[str]


def _aged(candidate: _Candidate | None, signature: Signature, gap_s: float) -> _Candidate:
    """A candidate after another look; a new one if there was none or the file changed."""
    if candidate is None or candidate.signature != signature:
        return _Candidate(signature)
    candidate.looks += 1
    candidate.age_s += gap_s
    return candidate


def _changed(claimed: Path, signature: Signature) -> bool:
    """Whether a claimed file is not what settled; it is as settled as it was if nobody can tell."""
    try:
        return Signature.of(claimed.stat(follow_symlinks=False)) != signature
    except OSError:
        return False
