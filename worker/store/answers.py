"""Answers in DICOM: which are due, made and sent. The durable outbox of `worker.interop`."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from worker.intake.found import found_at
from worker.store.dialect import COUNTED, insert_into
from worker.store.pieces import pieces
from worker.store.tables import Answer, File, Film, Model, Run, Screening
from worker.uids import answer_uid, model_identity

Kind = Literal["sr", "sc"]
STATES = ("due", "made", "sent", "impossible")
_AT_ONCE = 500
_CONTENT = re.compile("[0-9a-f]{12,64}")


@dataclass(frozen=True)
class Wanted:
    """Which kinds of answers are wanted of a model, by its identity (`uids.model_identity`)."""

    kinds: tuple[Kind, ...]
    identity: str

    @property
    def without_picture(self) -> "Wanted":
        """What is wanted of a film that gets no picture."""
        return Wanted(tuple(kind for kind in self.kinds if kind != "sc"), self.identity)


@dataclass(frozen=True)
class Due:
    """An answer with work left: `state` is `due` (to be made) or `made` (to be sent).

    `attempts` counts those that came to no end in this state.
    """

    id: int
    screening_id: int
    kind: Kind
    sop_instance_uid: str
    state: str
    file: str | None
    attempts: int


@dataclass(frozen=True)
class Place:
    """Where a file of some content was fed in, and what it is called in done/ since.

    An object of an object store has its `url`, and no path.
    `path` is where it lay when it was recorded; `source` and `file` are those of `Found`.
    """

    source: str
    file: str
    path: Path
    final_name: str | None
    is_removed: bool
    url: str = ""


@dataclass(frozen=True)
class Origin:
    """What an answer is made of beside `queries.StoredScreening`."""

    sha256: str
    identity: str
    worker_version: str
    sop_instance_uid: str | None
    report_removed: bool
    report_left_out: bool
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Trouble:
    """An answer that was not made so far, or never will be: of which file, and why."""

    file: str
    kind: Kind
    message: str
    is_final: bool


def ask_within(
    connection: Connection, wanted: Wanted, screened: Sequence[tuple[int, str]], now: datetime
) -> int:
    """Answers are due for these (screening, content), unless they were asked for. One statement.

    Gives how many are new.
    """
    rows = [
        {
            "screening_id": screening,
            "kind": kind,
            "sop_instance_uid": answer_uid(sha256, wanted.identity, kind),
            "state": "due",
            "attempts": 0,
            "due_at": now,
        }
        for screening, sha256 in screened
        for kind in wanted.kinds
    ]
    if not rows:
        return 0
    new = insert_into(connection, Answer)
    new = new.on_conflict_do_nothing()
    return connection.execute(new, rows, execution_options=COUNTED).rowcount


def ask_for_missing(engine: Engine, kinds: tuple[Kind, ...], now: datetime) -> int:
    """Ask for answers of the newest screening of each film with DICOM identity; gives how many new.

    In pieces with a transaction each, so that screening can write between them.
    """
    asked = _answerable().where(_is_newest()).order_by(Screening.id).limit(_AT_ONCE)
    new, last = 0, 0
    while True:
        with engine.begin() as connection:
            rows = connection.execute(asked.where(Screening.id > last)).all()
            if not rows:
                return new
            new += _ask_by_model(connection, rows, kinds, now)
        last = rows[-1].id


def ask_for(
    connection: Connection, screenings: Sequence[int], kinds: Sequence[Kind], now: datetime
) -> int:
    """Ask for answers of these screenings, of those with DICOM identity; gives how many new."""
    if not kinds:
        return 0
    rows = connection.execute(_answerable().where(Screening.id.in_(screenings))).all()
    return _ask_by_model(connection, rows, kinds, now)


def make_possible(connection: Connection, screenings: Sequence[int], now: datetime) -> None:
    """Answers of these screenings that were impossible, for want of a picture say, are due."""
    impossible = (Answer.screening_id.in_(screenings), Answer.state == "impossible")
    again = update(Answer).where(*impossible)
    connection.execute(again.values(state="due", attempts=0, due_at=now, message=None))


_Answerable = Row[int, str, str, str]


def _answerable() -> Select[int, str, str, str]:
    asked = select(Screening.id, Film.sha256, Model.weights_sha256, Model.preprocessing)
    asked = asked.join(Film, Film.id == Screening.film_id)
    return asked.join(Model, Model.id == Screening.model_id).where(_has_identity())


def _ask_by_model(
    connection: Connection, rows: Iterable[_Answerable], kinds: Sequence[Kind], now: datetime
) -> int:
    by_model: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        identity = model_identity(row.weights_sha256, row.preprocessing)
        by_model.setdefault(identity, []).append((row.id, row.sha256))
    return sum(
        ask_within(connection, Wanted(tuple(kinds), identity), screened, now)
        for identity, screened in by_model.items()
    )


def ask_again(engine: Engine, screenings: Iterable[int] | None, now: datetime) -> int:
    """Answers of these screenings, or all that there are, are to be made again; gives how many.

    `made_at` stays: it is of the file that is there until then.
    """
    again = update(Answer).values(state="due", attempts=0, due_at=now, message=None, sent_at=None)
    with engine.begin() as connection:
        if screenings is None:
            return connection.execute(again).rowcount
        return sum(
            connection.execute(again.where(Answer.screening_id.in_(some))).rowcount
            for some in pieces(list(screenings), _AT_ONCE)
        )


def make_due_now(engine: Engine, now: datetime) -> None:
    """Those that wait after an attempt wait no longer."""
    with engine.begin() as connection:
        connection.execute(update(Answer).where(Answer.state == "due").values(due_at=now))


def due(engine: Engine, state: Literal["due", "made"], now: datetime, limit: int) -> list[Due]:
    """Answers in this state whose moment has come, the longest waiting first."""
    columns = (Answer.id, Answer.screening_id, Answer.kind, Answer.sop_instance_uid)
    asked = select(*columns, Answer.state, Answer.file, Answer.attempts)
    asked = asked.where(Answer.state == state, Answer.due_at <= now)
    with engine.connect() as connection:
        ordered = asked.order_by(Answer.due_at, Answer.id).limit(limit)
        return [_due(row) for row in connection.execute(ordered)]


def count_attempts(engine: Engine, answers: Sequence[Due]) -> None:
    """Count an attempt before it is made: a death while it is made is remembered."""
    with engine.begin() as connection:
        connection.execute(
            update(Answer)
            .where(Answer.id.in_([each.id for each in answers]))
            .values(attempts=Answer.attempts + 1)
        )


def settle(engine: Engine, answer: Due, now: datetime, **values: object) -> None:
    """Write down what became of an answer: new values of its row; due at `now` unless they say.

    A row that is in another state by now stays: somebody wants the answer made again.
    """
    settle_all(engine, answer.state, {answer.id: values}, now)


def settle_all(
    engine: Engine, state: str, became: dict[int, dict[str, Any]], now: datetime
) -> None:
    """`settle` of several answers that were in this state, in one transaction."""
    its = and_(Answer.id == bindparam("its_id"), Answer.state == bindparam("its_state"))
    with engine.begin() as connection:
        for answer_id, values in became.items():
            settled = update(Answer).where(its).values({"due_at": now, **values})
            connection.execute(settled, {"its_id": answer_id, "its_state": state})


def origin(engine: Engine, screening_id: int) -> Origin:
    """What else the answers of a screening need. Raises NoResultFound when there is none."""
    reports = (Screening.report_removed_at, Screening.report_left_out)
    columns = (*reports, Film.sha256, Film.sop_instance_uid)
    asked = select(*columns, Model.weights_sha256, Model.preprocessing, Run.worker_version)
    asked = asked.join(Film, Film.id == Screening.film_id).join(Run, Run.id == Screening.run_id)
    asked = asked.join(Model, Model.id == Screening.model_id).where(Screening.id == screening_id)
    files = select(File.source, File.file, File.path, File.final_name, File.film_removed_at)
    files = files.where(File.screening_id == screening_id).order_by(File.id)
    with engine.connect() as connection:
        row = connection.execute(asked).one()
        places = tuple(_place(file) for file in connection.execute(files))
    return Origin(
        sha256=row.sha256,
        identity=model_identity(row.weights_sha256, row.preprocessing),
        worker_version=row.worker_version,
        sop_instance_uid=row.sop_instance_uid,
        report_removed=row.report_removed_at is not None,
        report_left_out=row.report_left_out,
        places=places,
    )


def screenings_of(engine: Engine, file: str) -> list[int]:
    """Screenings of a file, by its name as `screen query` says it, or by its content's SHA-256.

    Twelve digits of that are enough.
    """
    asked = select(File.screening_id).where(File.screening_id.is_not(None)).distinct()
    content = file.lower()
    if _CONTENT.fullmatch(content):
        asked = asked.where(File.sha256.between(content, content + "g"))
    else:
        asked = asked.where(File.file == file)
    with engine.connect() as connection:
        return [number for number in connection.scalars(asked) if number is not None]


def counts(engine: Engine) -> dict[str, int]:
    """How many answers stand where, in the order of `STATES`."""
    asked = select(Answer.state, func.count()).group_by(Answer.state)
    with engine.connect() as connection:
        found = {row[0]: row[1] for row in connection.execute(asked)}
    return {state: found.get(state, 0) for state in STATES}


def without_identity(engine: Engine) -> int:
    """How many screenings are of films that no answer can refer to."""
    asked = select(func.count()).select_from(Screening)
    asked = asked.join(Film, Film.id == Screening.film_id).where(~_has_identity())
    with engine.connect() as connection:
        return connection.scalar(asked) or 0


def troubles(engine: Engine, limit: int) -> list[Trouble]:
    """The newest answers that are impossible, or that still wait after an attempt."""
    named = select(func.min(File.file)).where(File.screening_id == Answer.screening_id)
    columns = (Answer.kind, Answer.message, Answer.state)
    asked = select(named.scalar_subquery().label("file"), *columns)
    stuck = or_(Answer.state == "impossible", and_(Answer.state == "due", Answer.message != ""))
    asked = asked.where(stuck).order_by(Answer.id.desc()).limit(limit)
    with engine.connect() as connection:
        return [
            Trouble(row.file, row.kind, row.message, row.state == "impossible")
            for row in connection.execute(asked)
        ]


def _is_newest() -> ColumnElement[bool]:
    """As the view `latest_results` has it."""
    newer = aliased(Screening)
    return (
        ~select(newer.id)
        .where(newer.film_id == Screening.film_id, newer.id > Screening.id)
        .exists()
    )


def _has_identity() -> ColumnElement[bool]:
    """As `outcomes.has_identity`, in SQL."""
    names = (Film.study_instance_uid, Film.series_instance_uid, Film.sop_instance_uid)
    return and_(Film.format == "DICOM", *(func.coalesce(name, "") != "" for name in names))


def _due(row: Row[int, int, str, str, str, str | None, int]) -> Due:
    return Due(*row)  # type: ignore[arg-type]  # the database checks the kind


def _place(row: Row[str, str, bytes, str | None, datetime | None]) -> Place:
    found = found_at(row.source, row.file, row.path, 0, 0)
    removed = row.film_removed_at is not None
    return Place(row.source, row.file, found.path, row.final_name, removed, found.url)
