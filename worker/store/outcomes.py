"""How files end: looked up before, written in one transaction per batch."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, bindparam, insert, select, update

from worker.errors import FilmError
from worker.failpoints import reach
from worker.records import Decision, PreparedFilm, Record
from worker.store.answers import Wanted, ask_within
from worker.store.dialect import insert_into
from worker.store.leases import still_held
from worker.store.lists import blocks_of, blocks_of_reports, mark_blocks_due
from worker.store.mark import mark_pages_unsafe
from worker.store.tables import HAS_REPORT, Failure, File, Film, Screening
from worker.store.work import Item


@dataclass(frozen=True)
class Screened:
    """A film that got its answer. `page` and `picture` are paths below reports/.

    `has_report` is false where these were left out on purpose.
    """

    item: Item
    record: Record
    film: PreparedFilm
    evidence: NDArray[np.float32]
    page: str
    picture: str
    final_name: str | None
    has_report: bool = True

    @property
    def content(self) -> str:
        """SHA-256 of what was screened."""
        return str(self.record.sha256)


@dataclass(frozen=True)
class Duplicate:
    """A file whose content was screened by the same model, before or earlier in its batch."""

    item: Item
    sha256: str
    final_name: str | None


@dataclass(frozen=True)
class Failed:
    """A file that could not be screened. `sha256` is `None` if it could not even be read."""

    item: Item
    sha256: str | None
    error: FilmError
    final_name: str | None


Outcome = Screened | Duplicate | Failed


def screened_contents(
    engine: Engine,
    contents: Iterable[str],
    model_id: int,
    wants_report: Callable[[str, str | None], bool] = lambda _decision, _reason: True,
) -> set[str]:
    """Which of these contents (SHA-256) this model has screened already.

    Those without a report, removed by retention or never made, are left out if an answer such as
    theirs, by decision and reason, `wants_report` now.
    """
    asked = (
        select(Film.sha256, Screening.decision, Screening.reason, HAS_REPORT.label("has_report"))
        .join(Screening, Screening.film_id == Film.id)
        .where(Film.sha256.in_(list(contents)), Screening.model_id == model_id)
    )
    with engine.connect() as connection:
        return {
            row.sha256
            for row in connection.execute(asked)
            if row.has_report or not wants_report(row.decision, row.reason)
        }


def answers_to(engine: Engine, contents: Iterable[str], model_id: int) -> list[int]:
    """Screenings of these contents (SHA-256) by this model."""
    asked = select(Screening.id).join(Film, Film.id == Screening.film_id)
    asked = asked.where(Film.sha256.in_(list(contents)), Screening.model_id == model_id)
    with engine.connect() as connection:
        return list(connection.scalars(asked.where(Screening.report_removed_at.is_(None))))


def finish(
    engine: Engine,
    outcomes: Sequence[Outcome],
    *,
    run_id: int,
    model_id: int,
    now: datetime,
    answers: Wanted | None = None,
) -> list[Outcome]:
    """Write the outcomes of a batch, all or none, in as many statements whatever its size.

    In the same transaction `answers` in DICOM are asked for, of the films that have DICOM identity.
    Returns what was written: all, but for films whose lease was lost (`worker.store.leases`). They
    are answered by whoever has them now.
    """
    with engine.begin() as connection:
        ending = _Ending(connection, run_id, model_id, now, answers)
        outcomes = ending.still_ours(outcomes)
        ending.write(outcomes)
        reach("outcomes-written")
    reach("outcomes-committed")
    return outcomes


@dataclass(frozen=True)
class _Answer:
    """A screening in the database; `has_report` unless that was removed, or never made."""

    id: int
    decision: str
    probability: float | None
    reason: str | None
    has_report: bool = True


@dataclass(frozen=True)
class _Ending:
    """One transaction that brings a batch to its end."""

    connection: Connection
    run_id: int
    model_id: int
    now: datetime
    wanted: Wanted | None

    def still_ours(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Outcomes without those of leases that were lost.

        Nor a copy of a film whose answer goes with such a lease.
        """
        leased = [each.item for each in outcomes if each.item.token is not None]
        lost = {item.id for item in leased}
        if leased:
            lost -= still_held(self.connection, leased)
        if not lost:
            return list(outcomes)
        ours = [each for each in outcomes if each.item.id not in lost]
        copies = {each.sha256 for each in ours if isinstance(each, Duplicate)}
        answered = set(self._known(copies)[1])
        answered |= {each.content for each in ours if isinstance(each, Screened)}
        return [e for e in ours if not isinstance(e, Duplicate) or e.sha256 in answered]

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Films before screenings, screenings before the files that point at them."""
        screened = [each for each in outcomes if isinstance(each, Screened)]
        copies = [each.sha256 for each in outcomes if isinstance(each, Duplicate)]
        films, answers = self._known({each.content for each in screened} | set(copies))
        again = {each.content: each for each in screened if _lacks_report(answers, each.content)}
        new = [each for each in screened if each.content not in answers]
        renewed = [(answers[c].id, each) for c, each in again.items() if each.has_report]
        blocks = self._renew(renewed)
        films |= self._insert_films([each for each in new if each.content not in films])
        made = self._insert_screenings(new, films)
        new = [each for each in new if each.content in made]
        answers |= made
        if len(answers) < len(films):  # another worker answered meanwhile
            answers |= self._known(films.keys() - answers.keys())[1]
        if self.wanted:
            self._ask(self.wanted, [each for each in new if each.has_report], answers)
            self._ask(self.wanted, [each for _, each in renewed], answers)
            bare = [each for each in new if not each.has_report]
            self._ask(self.wanted.without_picture, bare, answers)
        self._insert_failures([each for each in outcomes if isinstance(each, Failed)])
        fresh = {each.item.id for each in new}
        self._end_files([self._end(each, answers, fresh) for each in outcomes])
        mark_blocks_due(self.connection, blocks | blocks_of(each.item.id for each in outcomes))

    def _ask(self, wanted: Wanted, films: list[Screened], answers: dict[str, _Answer]) -> None:
        asked = [(answers[each.content].id, each.content) for each in films]
        ask_within(
            self.connection,
            wanted,
            [row for row, each in zip(asked, films, strict=True) if has_identity(each.film)],
            self.now,
        )

    def _known(self, contents: Collection[str]) -> tuple[dict[str, int], dict[str, _Answer]]:
        """Films by content, and what this model answered for them."""
        films: dict[str, int] = {}
        answers: dict[str, _Answer] = {}
        answered = (Screening.film_id == Film.id) & (Screening.model_id == self.model_id)
        columns = (Screening.decision, Screening.probability, Screening.reason)
        ids = (Film.id.label("film"), Screening.id.label("screening"))
        asked = select(Film.sha256, *ids, *columns, HAS_REPORT.label("has_report"))
        asked = asked.outerjoin(Screening, answered).where(Film.sha256.in_(contents))
        for row in self.connection.execute(asked):
            films[row.sha256] = row.film
            if row.screening is not None:
                says = (row.decision, row.probability, row.reason)
                answers[row.sha256] = _Answer(row.screening, *says, row.has_report)
        return films, answers

    def _renew(self, again: list[tuple[int, Screened]]) -> set[int]:
        """Give screenings that lack their report a new one; pages that list them.

        The first answer stands: one content and one model have one answer.
        """
        if not again:
            return set()
        rows = [
            {"its_id": i, "page": s.page, "picture": s.picture}
            for i, s in sorted(again, key=lambda one: one[0])
        ]
        renewed = update(Screening).where(Screening.id == bindparam("its_id"))
        self.connection.execute(renewed.values(report_removed_at=None, report_left_out=False), rows)
        ids = [screening for screening, _ in again]
        mark_pages_unsafe(self.connection, min(ids))
        return blocks_of_reports(self.connection, ids)

    def _insert_films(self, new: list[Screened]) -> dict[str, int]:
        """Films by content; those that another worker inserted meanwhile are taken from there.

        In the order of their contents: else two workers could wait for each other.
        """
        if not new:
            return {}
        rows = {each.content: _film(each, self.now) for each in new}
        insert = insert_into(self.connection, Film).on_conflict_do_nothing()
        in_order = [rows[content] for content in sorted(rows)]
        made = self.connection.execute(insert.returning(Film.sha256, Film.id), in_order)
        films = {row.sha256: row.id for row in made}
        return films if len(films) == len(rows) else films | self._known(rows.keys() - films)[0]

    def _insert_screenings(self, new: list[Screened], films: dict[str, int]) -> dict[str, _Answer]:
        """Answers by content, without those that another worker gave first. In order, as films."""
        if not new:
            return {}
        shared = {"model_id": self.model_id, "run_id": self.run_id, "screened_at": self.now}
        new = sorted(new, key=lambda each: films[each.content])
        rows = [_screening(each) | shared | {"film_id": films[each.content]} for each in new]
        insert = insert_into(self.connection, Screening).on_conflict_do_nothing()
        made = self.connection.execute(insert.returning(Screening.film_id, Screening.id), rows)
        ids = {row.film_id: row.id for row in made}
        return {
            content: _Answer(ids[films[content]], says.decision, says.probability, says.reason)
            for content, says in ((each.content, each.record) for each in new)
            if films[content] in ids
        }

    def _insert_failures(self, failed: list[Failed]) -> None:
        rows = [
            {
                "file_id": each.item.id,
                "run_id": self.run_id,
                "reason": each.error.slug,
                "message": str(each.error),
                "failed_at": self.now,
            }
            for each in failed
        ]
        if rows:
            self.connection.execute(insert(Failure), rows)

    def _end(
        self, outcome: Outcome, answers: dict[str, _Answer], fresh: set[int]
    ) -> dict[str, object]:
        """New values of a file's row; `fresh` are the files that got an answer of their own."""
        ended: dict[str, object] = {"its_id": outcome.item.id, "final_name": outcome.final_name}
        ended |= {"finished_at": self.now}
        if isinstance(outcome, Failed):
            how = {"state": "failed", "decision": Decision.REFUSED, "reason": outcome.error.slug}
            return (
                ended | how | {"sha256": outcome.sha256, "probability": None, "screening_id": None}
            )
        content = outcome.content if isinstance(outcome, Screened) else outcome.sha256
        answer = answers[content]
        return ended | {
            "state": "screened" if outcome.item.id in fresh else "duplicate",
            "sha256": content,
            "screening_id": answer.id,
            "decision": answer.decision,
            "probability": answer.probability,
            "reason": answer.reason,
        }

    def _end_files(self, rows: list[dict[str, object]]) -> None:
        if rows:
            ended = update(File).where(File.id == bindparam("its_id"))
            self.connection.execute(ended, rows)


def has_identity(film: PreparedFilm) -> bool:
    """Whether a film names its study, its series and itself: an answer can refer to it then."""
    tags = film.tags
    return film.format == "DICOM" and all(
        (tags.study_instance_uid, tags.series_instance_uid, tags.sop_instance_uid)
    )


def _lacks_report(answers: dict[str, _Answer], content: str) -> bool:
    return content in answers and not answers[content].has_report


def _screening(outcome: Screened) -> dict[str, object]:
    record, evidence = outcome.record, outcome.evidence.astype("<f4")
    return {
        "decision": record.decision,
        "probability": record.probability,
        "threshold": record.threshold,
        "guard_score": record.guard_score,
        "guard_threshold": record.guard_threshold,
        "reason": record.reason,
        "message": record.message,
        "evidence": evidence.tobytes(),
        "evidence_rows": evidence.shape[0],
        "evidence_columns": evidence.shape[1],
        "picture": outcome.picture,
        "page": outcome.page,
        "report_left_out": not outcome.has_report,
    }


def _film(outcome: Screened, now: datetime) -> dict[str, object]:
    film = outcome.film
    return {
        "sha256": outcome.content,
        "format": film.format,
        "rows": film.rows,
        "columns": film.columns,
        "notes": list(film.notes),
        "first_seen_at": now,
        **asdict(film.tags),
    }
