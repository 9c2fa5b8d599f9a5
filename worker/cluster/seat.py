"""The place of a worker process on its host, and what the last one in it left behind.

Several workers may share one configuration, each with files of its own beside the local state: its
pulse, its record of crashes, and which films it had in hand. A worker that is started again takes
the seat of the one that died, and says for it what the database cannot know.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

from sqlalchemy import Engine

from worker.crashes import CrashRecord
from worker.store.leases import count_crash, take_over
from worker.store.workers import end_worker


@dataclass
class Seat:
    """Files of one worker begin with `path`; `crash` is its record of crashes."""

    path: Path
    worker_id: int = 0

    @cached_property
    def crash(self) -> CrashRecord:
        """What the interpreter writes when it dies of a fault."""
        return CrashRecord(str(self.path))

    @property
    def _in_hand(self) -> Path:
        return self.path.with_name(self.path.name + ".hand")

    def note(self, ids: Sequence[int]) -> None:
        """Remember which films are in hand, before they are decoded; a death leaves it there."""
        draft = self._in_hand.with_name(self._in_hand.name + ".new")
        draft.write_text(json.dumps({"worker": self.worker_id, "files": list(ids)}), "ascii")
        draft.replace(self._in_hand)

    def leave(self) -> None:
        """Nothing is in hand, and nobody is dead."""
        self._in_hand.unlink(missing_ok=True)

    def settle_predecessor(self, engine: Engine) -> int:
        """Let the films of the dead one wait again; how many. Theirs is the blame if it crashed."""
        try:
            left = json.loads(self._in_hand.read_bytes())
            worker, files = int(left["worker"]), [int(each) for each in left["files"]]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return 0
        if self.crash.found() is not None:
            count_crash(engine, files)
        taken = take_over(engine, worker)
        end_worker(engine, worker)
        self.leave()
        return taken


@contextmanager
def seat_taken(local_state: Path) -> Iterator[Seat]:
    """The first free seat of this host; free again when the process ends, in whatever way.

    The first has the names of a worker that is the only one.
    """
    for number in count(1):
        name = local_state.name if number == 1 else f"{local_state.name}-{number}"
        path = local_state.with_name(name)
        descriptor = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield Seat(path)
        finally:
            os.close(descriptor)
        return
