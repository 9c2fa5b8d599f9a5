"""Screen files where they lie: no site, no database, one record for every file, in order."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.decoding import require_unchanged
from worker.errors import FilmError
from worker.filesystem import sha256_of
from worker.records import Examined, PreparedFilm, Record
from worker.screening import Screener


@dataclass(frozen=True)
class Classified:
    """One file's record; `film` and `evidence` are `None` if it could not be decoded."""

    path: Path
    record: Record
    film: PreparedFilm | None = None
    evidence: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Pending:
    path: Path
    sha256: str | None  # None if the file could not be read; then the future says why
    future: Future[Examined]


def classify(
    screener: Screener, paths: Iterable[Path], batch_size: int, max_file_mb: int
) -> Iterator[Classified]:
    """Screen files in batches, decoding ahead; records come in the order of `paths`."""
    waiting: deque[_Pending] = deque()
    for path in paths:
        waiting.append(_begin(screener, path, max_file_mb))
        if len(waiting) >= 2 * batch_size:
            yield from _finish(screener, [waiting.popleft() for _ in range(batch_size)])
    while waiting:
        count = min(batch_size, len(waiting))
        yield from _finish(screener, [waiting.popleft() for _ in range(count)])


def _begin(screener: Screener, path: Path, max_file_mb: int) -> _Pending:
    where = path.resolve()  # a link comes here only if somebody named it
    try:
        sha256 = sha256_of(where, max_file_mb << 20)
    except FilmError as error:
        unread: Future[Examined] = Future()
        unread.set_exception(error)
        return _Pending(path, None, unread)
    return _Pending(path, sha256, screener.examine(where))


def _finish(screener: Screener, batch: list[_Pending]) -> Iterator[Classified]:
    films: dict[int, Examined] = {}
    errors: dict[int, FilmError] = {}
    for index, pending in enumerate(batch):
        try:
            examined = pending.future.result()
            require_unchanged(examined.film, str(pending.sha256))
            films[index] = examined
        except FilmError as error:
            errors[index] = error
    answers = screener.answer(
        list(films.values()),
        [str(batch[index].path) for index in films],
        [str(batch[index].sha256) for index in films],
    )
    answered = dict(zip(films, answers, strict=True))
    for index, pending in enumerate(batch):
        if index in errors:
            record = screener.failure(str(pending.path), pending.sha256, errors[index])
            yield Classified(pending.path, record)
        else:
            answer = answered[index]
            yield Classified(pending.path, answer.record, answer.film, answer.evidence)
