"""The way of a batch: hash, count, decode, predict, decide, write, commit. The protocol lives here.

`start` counts the attempt in the database and begins to decode; `finish` waits, predicts, writes
pictures and pages, and commits all results of the batch in one transaction. A caller may start the
next batch before it finishes this one, but finishes them in order. Moving sources away is the
caller's, after `finish`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from worker.admission import Admission
from worker.config import Config
from worker.errors import ChangedFile, FilmError, LostFile, Quarantined
from worker.failpoints import reach
from worker.records import Answered, PreparedFilm
from worker.report.site import model_facts, page_name, picture_name, write_page, write_pictures
from worker.report.view import FilmView
from worker.store.outcomes import Duplicate, Failed, Outcome, Screened, finish, screened_contents
from worker.store.work import Item, add_strike, begin_attempt

if TYPE_CHECKING:  # torch is for whoever makes the screener
    from worker.screening import Screener

log = logging.getLogger(__name__)

_ALIVE_EVERY_S = 1.0  # while a decoder is waited for

NameFor = Callable[[Item, bool], str | None]


@dataclass
class Started:
    """A batch under way: its items by content, and what is being decoded."""

    items: list[Item]
    contents: dict[int, str] = field(default_factory=dict)  # item id → SHA-256
    errors: dict[int, FilmError] = field(default_factory=dict)  # item id → why it failed
    known: set[str] = field(default_factory=set)  # contents screened before
    decoding: dict[str, tuple[Item, Future[PreparedFilm]]] = field(default_factory=dict)

    def of_content(self, sha256: str) -> list[int]:
        """Ids of the items that have this content."""
        return [item.id for item in self.items if self.contents.get(item.id) == sha256]


class Pipeline:
    """Screens recorded files for one run. `name_for(item, failed)` gives their final names.

    `check` raises when the site's folders are not the ones that were marked: nothing may be
    written then, and no file be called lost. `alive` is called while decoders are waited for.
    """

    def __init__(
        self,
        engine: Engine,
        screener: Screener,
        config: Config,
        *,
        run_id: int,
        model_id: int,
        check: Callable[[], None],
        alive: Callable[[], None] = lambda: None,
        name_for: NameFor = lambda _item, _failed: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine, self._screener, self._config = engine, screener, config
        self._run_id, self._model_id = run_id, model_id
        self._check, self._alive = check, alive
        self._name_for, self._clock = name_for, clock
        self._in_flight: set[str] = set()
        self._admission = Admission(config)

    def start(self, items: Sequence[Item]) -> Started:
        """Hash a batch, count the attempt, and begin to decode what is new."""
        batch = Started(list(items))
        for item in items:
            sha256, error = self._admission.admit(item)
            batch.contents |= {item.id: sha256} if sha256 else {}
            batch.errors |= {item.id: error} if error else {}
        if any(isinstance(error, LostFile) for error in batch.errors.values()):
            self._check()
        reach("batch-hashed")
        batch.known = self._screened(batch)
        begin_attempt(self._engine, items, self._run_id, self._model_id)
        self._decode_new(batch, skip=self._in_flight)
        self._in_flight |= batch.decoding.keys()
        return batch

    def _screened(self, batch: Started) -> set[str]:
        return screened_contents(self._engine, set(batch.contents.values()), self._model_id)

    def _decode_new(self, batch: Started, skip: set[str]) -> None:
        """Begin to decode each content once, unless it is known or to be skipped."""
        for item in batch.items:
            sha256 = None if item.id in batch.errors else batch.contents.get(item.id)
            if sha256 and not (sha256 in batch.known or sha256 in batch.decoding or sha256 in skip):
                batch.decoding[sha256] = (item, self._screener.decode(item.found.path))

    def finish(self, batch: Started) -> list[Outcome]:
        """Bring a started batch to its end; the outcomes are committed when this returns.

        Raises OSError or StoreError when disk or database refuse: no film is to blame then.
        """
        try:
            batch.known |= self._screened(batch)  # twins in the batch before this one
            self._decode_new(batch, skip=set())
            films = self._gather(batch)
            reach("batch-decoded")
            self._check()
            items = [batch.decoding[sha256][0] for sha256 in films]
            files = [item.found.file for item in items]
            answers = self._screener.answer(list(films.values()), files, list(films))
            reach("batch-answered")
            now = self._clock()
            self._write(answers, now)
            screened = {item.id: answer for item, answer in zip(items, answers, strict=True)}
            outcomes = [self._outcome(item, batch, screened) for item in batch.items]
            self._commit(outcomes, now)
            return outcomes
        finally:
            self._in_flight -= batch.decoding.keys()

    def abandon(self, batch: Started) -> None:
        """Forget a started batch; its files stay counted as attempted and can be started again."""
        for _, future in batch.decoding.values():
            future.cancel()
        self._in_flight -= batch.decoding.keys()

    def _gather(self, batch: Started) -> dict[str, PreparedFilm]:
        """Wait for the decoders; what they could not decode goes to the batch's errors."""
        films = {}
        for sha256, (item, future) in batch.decoding.items():
            try:
                films[sha256] = require_unchanged(self._patiently(item, future), sha256)
            except FilmError as error:
                batch.errors |= dict.fromkeys(batch.of_content(sha256), error)
        return films

    def _patiently(self, item: Item, future: Future[PreparedFilm]) -> PreparedFilm:
        """Result of a decoder; after a death or a time-out again, until the film's last strike."""
        while True:
            try:
                while not wait([future], timeout=_ALIVE_EVERY_S).done:
                    self._alive()
                return future.result()
            except FilmError as error:
                if not error.is_strike:
                    raise
                item = add_strike(self._engine, item)
                log.warning(
                    "a film took its decoder down",
                    extra={"file": item.id, "slug": error.slug, "strikes": item.strikes},
                )
                if item.strikes >= self._config.decode.strikes:
                    raise Quarantined(f"after {item.strikes} strikes: {error}") from error
                future = self._screener.decode(item.found.path)

    def _write(self, answers: Sequence[Answered], now: datetime) -> None:
        site = self._config.site
        pictures = {
            picture_name(str(a.record.sha256), self._screener.identity): a.film.picture
            for a in answers
        }
        write_pictures(site, pictures)
        for answer in answers:
            write_page(site, self._view(answer, now))
        reach("pages-written")

    def _view(self, answer: Answered, now: datetime) -> FilmView:
        record, film = answer.record, answer.film
        return FilmView(
            record=record,
            model=model_facts(self._screener.card),
            picture=film.picture,
            evidence=answer.evidence,
            page=page_name(str(record.sha256), self._screener.identity),
            format=film.format,
            rows=film.rows,
            columns=film.columns,
            tags=film.tags,
            notes=film.notes,
            run=self._run_id,
            screened_at=now,
        )

    def _outcome(self, item: Item, batch: Started, screened: dict[int, Answered]) -> Outcome:
        error = batch.errors.get(item.id)
        if error is not None:
            return Failed(item, batch.contents.get(item.id), error, self._name_for(item, True))
        sha256 = batch.contents[item.id]
        final_name = self._name_for(item, False)
        answer = screened.get(item.id)
        if answer is None:
            return Duplicate(item, sha256, final_name)
        identity = self._screener.identity
        return Screened(
            item,
            answer.record,
            answer.film,
            answer.evidence,
            page=page_name(sha256, identity),
            picture=picture_name(sha256, identity),
            final_name=final_name,
        )

    def _commit(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        finish(self._engine, outcomes, run_id=self._run_id, model_id=self._model_id, now=now)
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                log.info(
                    "a file failed", extra={"file": outcome.item.id, "slug": outcome.error.slug}
                )


def require_unchanged(film: PreparedFilm, sha256: str) -> PreparedFilm:
    """The film, if it was decoded from the bytes that were hashed; else raises ChangedFile."""
    if film.sha256 != sha256:
        raise ChangedFile("the file changed while it was read: feed it in again when it is whole")
    return film
