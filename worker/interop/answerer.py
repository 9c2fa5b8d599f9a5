"""Make the answers that are due: find the film, read its header, build, write, note.

A death at any step leaves the answer due, and it is made again with the same UID under the same
name. The attempt is counted before the film is touched: what takes the worker down is not tried
for ever, and is tried alone.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from worker.config import Config
from worker.errors import FilmError
from worker.failpoints import reach
from worker.filesystem import remove_temporary, sync_folder, write_all_atomic
from worker.imaging.limits import DecodeLimits
from worker.imaging.sandbox import ANY_SETTINGS, DecoderPool
from worker.interop.errors import Impossible
from worker.interop.locate import attributes_of_film
from worker.patience import TROUBLES, Trouble, cause
from worker.report.site import make_folder
from worker.store.answers import Due, count_attempts, due, origin, settle_all
from worker.store.queries import stored_screening

if TYPE_CHECKING:
    from worker.interop.answer import Subject

log = logging.getLogger(__name__)

_AT_ONCE = 16  # answers in one transaction
_ATTEMPTS = 3  # deaths of worker or decoder and errors of ours, then an answer is given up
_AGAIN_AFTER = timedelta(minutes=1)  # what disk, share or memory refused

Told = Callable[[Due, str, str | None], None]


@dataclass
class Done:
    """What came of answers: counts by state (made, impossible, due), and the first trouble."""

    counts: Counter[str] = field(default_factory=Counter)
    trouble: str | None = None


@dataclass
class _Batch:
    """Answers that are being made: objects by path, and what their rows become."""

    files: dict[Path, bytes] = field(default_factory=dict)
    became: dict[int, dict[str, Any]] = field(default_factory=dict)


class Answerer:
    """Makes answers. `check` raises when the site's folders are not those that were marked.

    `told` hears of each answer: the row, the state that it came to, and why. Close it to end its
    decoder process.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        check: Callable[[], None],
        *,
        told: Told = lambda _each, _state, _message: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine, self._config, self._check = engine, config, check
        self._told, self._clock = told, clock
        self._pool: DecoderPool | None = None

    def close(self) -> None:
        """End the decoder process."""
        if self._pool is not None:
            self._pool.close()

    def work_off(
        self, stop: threading.Event | None = None, rest: Callable[[], float] = lambda: 0.0
    ) -> Done:
        """Make all that is due, until `stop` is set, with `rest()` seconds between batches.

        Raises what `worker.patience` knows when the database or the folder of answers refuses.
        """
        done, stop = Done(), stop or threading.Event()
        while not stop.is_set() and (batch := self._next()):
            self._make(batch, done, stop)
            stop.wait(rest())
        return done

    def _next(self) -> list[Due]:
        """The next answers; one that was attempted before goes alone, or it would blame others."""
        waiting = due(self._engine, "due", self._clock(), _AT_ONCE)
        untried = next((i for i, each in enumerate(waiting) if each.attempts), len(waiting))
        return waiting[: max(1, untried)]

    def _make(self, answers: Sequence[Due], done: Done, stop: threading.Event) -> None:
        self._check()
        count_attempts(self._engine, answers)
        reach("answers-counted")
        batch = _Batch()
        for screening_id in dict.fromkeys(each.screening_id for each in answers):
            its = [each for each in answers if each.screening_id == screening_id]
            if stop.is_set():
                batch.became |= {each.id: _unbegun(each) for each in its}
                continue
            try:
                self._build(screening_id, its, batch)
            except (*TROUBLES, MemoryError) as error:
                done.trouble = done.trouble or _cause(error)
                batch.became |= {each.id: self._again(each, error) for each in its}
            except Exception as error:  # the films of others go on
                log.exception("an answer could not be made")
                batch.became |= {each.id: self._strike(_unforeseen(error)) for each in its}
        try:
            self._write(batch.files)
        except OSError as error:
            self._settle({each.id: self._again(each, error) for each in answers})
            raise
        reach("answers-written")
        self._settle(batch.became)
        reach("answers-made")
        for each in answers:
            became = batch.became[each.id]
            done.counts[became["state"]] += 1
            self._told(each, became["state"], became["message"])

    def _settle(self, became: dict[int, dict[str, Any]]) -> None:
        settle_all(self._engine, "due", became, self._clock())

    def _build(self, screening_id: int, answers: Sequence[Due], batch: _Batch) -> None:
        """Build the answers of one film. Raises what `worker.patience` knows."""
        try:
            if max(each.attempts for each in answers) >= _ATTEMPTS:
                raise Impossible(f"given up after {_ATTEMPTS} attempts")
            subject = self._subject(screening_id)
        except Impossible as error:
            batch.became |= {each.id: self._impossible(each, str(error)) for each in answers}
        except FilmError as error:  # its decoder died: that is counted already
            batch.became |= {each.id: self._strike(str(error)) for each in answers}
        else:
            for each in answers:
                self._encode(subject, each, batch)

    def _subject(self, screening_id: int) -> "Subject":
        from worker.interop.make import subject_of

        if self._pool is None:
            limits = DecodeLimits.from_config(self._config.decode)
            self._pool = DecoderPool(ANY_SETTINGS, limits, 1)
        whose = origin(self._engine, screening_id)
        stored = stored_screening(self._engine, screening_id)
        return subject_of(stored, whose, attributes_of_film(self._pool, self._config, whose))

    def _encode(self, subject: "Subject", each: Due, batch: _Batch) -> None:
        from worker.interop.make import encoded

        try:
            uid, data = encoded(subject, each.kind, lambda: self._picture(subject))
            if uid != each.sop_instance_uid:
                raise ValueError("another UID than was asked for")
        except Impossible as error:
            batch.became[each.id] = self._impossible(each, str(error))
        except (*TROUBLES, MemoryError):
            raise
        except Exception as error:  # of our own or of highdicom's: the others go on
            log.exception("an answer could not be built")
            batch.became[each.id] = self._impossible(each, _unforeseen(error))
        else:
            name = file_name(uid)
            batch.files[self._config.dicom.answers / name] = data
            batch.became[each.id] = {
                "state": "made",
                "file": name,
                "attempts": 0,
                "message": None,
                "made_at": self._clock(),
            }

    def _picture(self, subject: "Subject") -> bytes:
        if subject.origin.report_removed:
            raise Impossible("retention removed the film's picture")
        if subject.origin.report_left_out:
            raise Impossible("the film got no picture: 'screen report FILE' makes it")
        try:
            return (self._config.site.reports / subject.stored.picture).read_bytes()
        except FileNotFoundError as error:
            self._check()  # raises when the share is gone
            raise Impossible("the film's picture is missing in reports/") from error

    def _write(self, files: dict[Path, bytes]) -> None:
        """Write the objects so that they survive a power loss, under their final names."""
        if not files:
            return
        site = self._config.site
        folders = {path.parent for path in files}
        for folder in (self._config.dicom.answers, *folders):
            make_folder(site, folder)
        write_all_atomic(files, int(site.file_mode, 8), sync=True)
        for folder in folders:
            sync_folder(folder)

    def _impossible(self, each: Due, why: str) -> dict[str, Any]:
        """No answer; where one was made before and still lies there, that one stands."""
        if each.file and (self._config.dicom.answers / each.file).is_file():
            message = f"it could not be made anew: {why}"
            return {"state": "made", "attempts": 0, "message": message}
        return {"state": "impossible", "message": why}

    def _again(self, each: Due, error: Trouble | MemoryError) -> dict[str, Any]:
        """Nobody is to blame: the attempt does not count."""
        later = self._clock() + _AGAIN_AFTER
        values = {"state": "due", "attempts": each.attempts, "due_at": later}
        return {**values, "message": _cause(error)}

    def _strike(self, why: str) -> dict[str, Any]:
        return {"state": "due", "message": why, "due_at": self._clock() + _AGAIN_AFTER}


def remove_half_written(answers: Path) -> None:
    """Remove what a kill left below answers/; for the one that holds the site."""
    for folder in answers.glob("??"):
        remove_temporary(folder)


def file_name(sop_instance_uid: str) -> str:
    """Path of an answer below answers/: a hundred folders, and nothing of the patient."""
    return f"{sop_instance_uid[-2:]}/{sop_instance_uid}.dcm"


def _unbegun(each: Due) -> dict[str, Any]:
    """We are to end: the attempt, counted with the batch, did not take place."""
    return {"state": "due", "attempts": each.attempts, "message": None}


def _unforeseen(error: Exception) -> str:
    return f"it cannot be built ({type(error).__name__})"


def _cause(error: Trouble | MemoryError) -> str:
    return "out of memory" if isinstance(error, MemoryError) else cause(error)
