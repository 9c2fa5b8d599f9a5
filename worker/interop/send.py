"""Answers on their way out: from the durable outbox to the node that `[dicom] send_to` names.

An answer is `sent` once the node said that it has it; until then it waits, longer after each
attempt. If we die between the node's word and our writing it down, or its word is lost, the
answer goes out again under the same SOP instance UID, which for a PACS is the same instance.
"""

import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID
from sqlalchemy import Engine

from worker.config import Config, Site
from worker.errors import ConfigError
from worker.interop.call import Call, NoAnswer, NotThere, Unsendable
from worker.interop.nodes import node
from worker.interop.tls import client_tls
from worker.patience import TROUBLES, cause
from worker.report.site import make_folder
from worker.store.answers import Due, due, settle

log = logging.getLogger(__name__)

_BATCH = 100  # answers of one association
_FIRST_WAIT_S, _LONGEST_WAIT_S = 30.0, 3600.0
_LOOK_S = 5.0  # between looks of a daemon into the outbox
_LAST_ANSWER_S = 10.0  # for the answer in hand when the daemon ends
_LOCK = ".sending"
_Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Round:
    """What came of a look into the outbox."""

    sent: int
    failed: int


@dataclass(frozen=True)
class _Letter:
    """An answer whose file was found fit to be sent."""

    answer: Due
    file: Path
    sop_class: UID
    syntax: UID


class Unfit(Exception):
    """The file of an answer is not the object that the outbox says it is, or cannot be read."""


class Gone(Exception):
    """The file of an answer is not there."""


def _now() -> datetime:
    return datetime.now(UTC)


def send_due(
    config: Config,
    engine: Engine,
    *,
    until: datetime | None = None,
    stopped: Callable[[], bool] = lambda: False,
    clock: _Clock = _now,
) -> Round:
    """Send what is due now, or what will be `until` then; every answer is tried once.

    One association carries a hundred answers; a node that takes none ends the round. An answer
    whose file is gone is due to be made again. Only one process of a site sends at a time: a
    second waits here. Raises ConfigError, StoreError, OSError.
    """
    target, tls = node(config.dicom.send_to), client_tls(config)
    arrived: dict[int, bool] = {}  # by the number of each answer that was tried
    with _alone(config.site, config.dicom.answers):
        limit = until or clock()
        while not stopped() and (batch := _next(engine, limit, arrived.keys())):
            letters = []
            for answer in batch:
                try:
                    letters.append(_letter(config.dicom.answers, answer))
                except Unfit as error:
                    arrived[answer.id] = _postpone(engine, answer, str(error), clock())
                except Gone:
                    arrived[answer.id] = _make_again(engine, answer, clock())
            contexts = [(letter.sop_class, letter.syntax) for letter in letters]
            call = Call(target, config.dicom.ae_title, tls, contexts)
            if letters:
                arrived |= _send(call, engine, letters, stopped, clock)
                if not call.reached:
                    break
    if arrived:
        log.info("answers sent", extra={"count": sum(arrived.values())})
    return Round(sum(arrived.values()), len(arrived) - sum(arrived.values()))


def try_to_send(config: Config, engine: Engine, stopped: Callable[[], bool]) -> None:
    """Send what is due, each answer once; what is in the way is only logged."""
    try:
        send_due(config, engine, stopped=stopped)
    except TROUBLES as error:
        log.error("sending paused: %s", cause(error))
    except ConfigError as error:
        log.error("sending paused", extra={"slug": error.slug})
    except Exception:
        log.exception("sending failed")  # and is tried again: nothing was marked


def start_sender(
    config: Config, engine: Engine, is_ours: Callable[[], bool] = lambda: True
) -> Callable[[], None]:
    """Send answers in a thread from now on; gives what ends it, within a bound.

    Where several workers hold the site, `is_ours` says whether it is this one that sends. Without
    `[dicom] send_to` there is nothing to do. Raises ConfigError.
    """
    if not config.dicom.send_to:
        return lambda: None
    node(config.dicom.send_to), client_tls(config)  # what is wrong is said at the start
    ending = threading.Event()

    def work() -> None:
        while not ending.wait(_LOOK_S):
            if is_ours():
                try_to_send(config, engine, ending.is_set)

    thread = threading.Thread(target=work, name="sender", daemon=True)
    thread.start()

    def stop() -> None:
        ending.set()
        thread.join(_LAST_ANSWER_S)

    return stop


def _next(engine: Engine, limit: datetime, tried: Collection[int]) -> list[Due]:
    """The next answers that were not tried in this round."""
    found = due(engine, "made", limit, _BATCH + len(tried))
    return [answer for answer in found if answer.id not in tried][:_BATCH]


def _letter(folder: Path, answer: Due) -> _Letter:
    """Look at the file: it must be the instance of the outbox. Raises Unfit, Gone."""
    file = folder / (answer.file or "")
    try:
        ds = dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        meta = ds.file_meta
        sop_class, syntax = meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID
        instances = {ds.get("SOPInstanceUID"), meta.MediaStorageSOPInstanceUID}
    except FileNotFoundError as error:
        raise Gone from error
    except Exception as error:  # pydicom raises what it likes; no file holds up the others
        raise Unfit("its file cannot be read") from error
    if instances != {answer.sop_instance_uid} or ds.get("SOPClassUID") != sop_class:
        raise Unfit("its file holds another SOP instance")
    return _Letter(answer, file, sop_class, syntax)


def _send(
    call: Call,
    engine: Engine,
    letters: Sequence[_Letter],
    stopped: Callable[[], bool],
    clock: _Clock,
) -> dict[int, bool]:
    """Send letters over one association; which arrived, of those that were tried."""
    arrived: dict[int, bool] = {}
    waiting = deque(letters)
    try:
        with call:
            while waiting and not stopped():
                letter = waiting[0]
                status = call.store(letter.file, letter.sop_class, letter.syntax)
                waiting.popleft()
                note = _mark_sent if status.arrived else _postpone
                arrived[letter.answer.id] = note(engine, letter.answer, status.words, clock())
    except NotThere as error:
        for letter in waiting:
            arrived[letter.answer.id] = _postpone(engine, letter.answer, str(error), clock())
    except (NoAnswer, Unsendable) as error:  # the others go over another association
        answer = waiting[0].answer
        arrived[answer.id] = _postpone(engine, answer, str(error), clock())
    return arrived


def _mark_sent(engine: Engine, answer: Due, words: str, now: datetime) -> bool:
    settle(engine, answer, now, state="sent", sent_at=now, message=words or None)
    return True


def _make_again(engine: Engine, answer: Due, now: datetime) -> bool:
    """A restored database knows answers whose files are no more; they get the same UID again."""
    values = {"state": "due", "file": None, "attempts": 0, "message": None, "made_at": None}
    settle(engine, answer, now, **values)
    return False


def _postpone(engine: Engine, answer: Due, words: str, now: datetime) -> bool:
    """Count the attempt; the next comes after twice the time, an hour at most."""
    wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(answer.attempts, 20))
    later = now + timedelta(seconds=wait_s)
    settle(engine, answer, now, attempts=answer.attempts + 1, message=words, due_at=later)
    return False


@contextmanager
def _alone(site: Site, folder: Path) -> Iterator[None]:
    """Hold the outbox: two senders would send what the other just did. Raises OSError."""
    make_folder(site, folder)
    descriptor = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
