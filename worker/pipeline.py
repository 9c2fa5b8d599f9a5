"""The way of a batch: hash, count, decode, predict, decide, write, commit. The protocol lives here.

`start` counts the attempt in the database and begins to decode and to predict; `finish` waits,
decides, writes pictures and pages, and commits all results of the batch in one transaction. A
caller may have `batches_under_way` started: while one is written, others are decoded and predicted.
Moving sources away is the caller's, after `finish`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from worker.admission import Admission
from worker.config import Config, usable_cores
from worker.decoding import Decoding, Started
from worker.errors import LostFile
from worker.failpoints import reach
from worker.records import Answered
from worker.report.eyes import Reports, gets_report
from worker.report.site import model_facts, page_name, picture_name, write_page, write_pictures
from worker.report.view import FilmView
from worker.store.answers import Wanted
from worker.store.outcomes import Duplicate, Failed, Outcome, Screened, finish, screened_contents
from worker.store.previous import previous_films
from worker.store.work import Item, begin_attempt

if TYPE_CHECKING:  # torch is for whoever makes the screener
    from worker.screening import Screener

log = logging.getLogger(__name__)

_FILMS_PER_CORE = 4  # under way beside two batches: one being decoded, some waiting to be predicted

NameFor = Callable[[Item, bool], str | None]


class Pipeline:
    """Screens recorded files for one run. `name_for(item, failed)` gives their final names.

    `check` raises when the site's folders are not the ones that were marked: nothing may be
    written then, and no file be called lost. So does `require_archive` for a lost file's source.
    `alive` is called while decoders are waited for.
    `reports` says which films get page and picture.
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
        reports: Reports = "all",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine, self._screener, self._config = engine, screener, config
        self._run_id, self._model_id = run_id, model_id
        self._check, self._name_for, self._clock = check, name_for, clock
        self._reports = reports
        self._decoding = Decoding(engine, screener, config.decode.strikes, alive)
        self.require_archive: Callable[[str], None] = lambda _source: None
        self._in_flight: set[str] = set()
        self.batches_under_way = 2 + ceil(_FILMS_PER_CORE * usable_cores() / config.batch.size)
        self._admission = Admission(config)

    def start(self, items: Sequence[Item]) -> Started:
        """Hash a batch, count the attempt, and begin to decode what is new."""
        batch = Started(list(items))
        for item in items:
            sha256, error = self._admission.admit(item)
            batch.contents |= {item.id: sha256} if sha256 else {}
            batch.errors |= {item.id: error} if error else {}
        self._require_shares(batch)
        reach("batch-hashed")
        batch.known = self._screened(batch)
        self._count(items)
        self._decoding.begin(batch, skip=self._in_flight)
        self._in_flight |= batch.decoding.keys()
        return batch

    def _require_shares(self, batch: Started) -> None:
        """Files are lost only where the folders are the ones they were."""
        lost = {i for i, error in batch.errors.items() if isinstance(error, LostFile)}
        if lost:
            self._check()
        for source in {item.found.source for item in batch.items if item.id in lost}:
            self.require_archive(source)

    def _count(self, items: Sequence[Item]) -> None:
        """Count the attempt of each, unless its lease did."""
        uncounted = [item for item in items if item.token is None]
        begin_attempt(self._engine, uncounted, self._run_id, self._model_id)

    def _screened(self, batch: Started) -> set[str]:
        contents = set(batch.contents.values())
        return screened_contents(self._engine, contents, self._model_id, self._wants_report)

    def _wants_report(self, decision: str, reason: str | None) -> bool:
        return gets_report(self._reports, decision, reason, self._screener.card.labels)

    def finish(self, batch: Started) -> list[Outcome]:
        """Bring a started batch to its end; the outcomes are committed when this returns.

        Raises OSError or StoreError when disk or database refuse: no film is to blame then.
        """
        return self._finish(batch, patient=True)[0]

    def finish_ready(self, batch: Started) -> tuple[list[Outcome], Started | None]:
        """`finish`, but films that keep the others waiting come back as a batch under way."""
        return self._finish(batch, patient=False)

    def _finish(self, batch: Started, *, patient: bool) -> tuple[list[Outcome], Started | None]:
        rest = None
        try:
            self._look_again(batch)
            films, rest = self._decoding.gather(batch, patient=patient)
            self._require_shares(batch)
            reach("batch-decoded")
            items = [batch.decoding[sha256][0] for sha256 in films]
            files = [item.found.file for item in items]
            answers = self._screener.answer(list(films.values()), files, list(films))
            reach("batch-answered")
            now = self._clock()
            self._write(answers, now)
            screened = {item.id: answer for item, answer in zip(items, answers, strict=True)}
            outcomes = [self._outcome(item, batch, screened) for item in batch.items]
            return self._commit(outcomes, now), rest
        except BaseException:
            if rest:
                self.abandon(rest)
            raise
        finally:
            self._in_flight -= batch.decoding.keys()

    def _look_again(self, batch: Started) -> None:
        """Contents that another batch has screened meanwhile are not screened twice."""
        batch.known |= self._screened(batch)
        for sha256 in batch.known & batch.decoding.keys():
            batch.decoding.pop(sha256)[1].cancel()
            self._in_flight.discard(sha256)
        self._decoding.begin(batch, skip=set())

    def abandon(self, batch: Started) -> None:
        """Forget a started batch; its files stay counted as attempted and can be started again."""
        for _, future in batch.decoding.values():
            future.cancel()
        self._in_flight -= batch.decoding.keys()

    def _write(self, answers: Sequence[Answered], now: datetime) -> None:
        site = self._config.site
        answers = [a for a in answers if self._wants_report(a.record.decision, a.record.reason)]
        pictures = {
            picture_name(str(a.record.sha256), self._screener.identity): a.film.picture
            for a in answers
        }
        self._check()  # not before predicting: that takes its time, and the share may go
        write_pictures(site, pictures)
        for answer in answers:
            self._check()
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
            previous=previous_films(self._engine, film.tags.patient_key, str(record.sha256)),
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
            has_report=self._wants_report(answer.record.decision, answer.record.reason),
        )

    def _commit(self, outcomes: Sequence[Outcome], now: datetime) -> list[Outcome]:
        """Commit outcomes; those come back that were ours to commit."""
        written = finish(
            self._engine,
            outcomes,
            run_id=self._run_id,
            model_id=self._model_id,
            now=now,
            answers=Wanted(self._config.dicom.results, self._screener.identity),
        )
        for outcome in written:
            if isinstance(outcome, Failed):
                log.info(
                    "a file failed", extra={"file": outcome.item.id, "slug": outcome.error.slug}
                )
        return written
