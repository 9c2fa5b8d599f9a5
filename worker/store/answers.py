"""Answers in DICOM: which are due, made and sent. The durable outbox of `worker.interop`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Engine, Row, select, update
from sqlalchemy.dialects.sqlite import insert

from worker.store.tables import Answer

Kind = Literal["sr", "sc"]


@dataclass(frozen=True)
class Due:
    """An answer with work left: `state` is `due` (to be made) or `made` (to be sent)."""

    id: int
    screening_id: int
    kind: Kind
    sop_instance_uid: str
    state: str
    file: str | None
    attempts: int


def ask_for(engine: Engine, wanted: Sequence[tuple[int, Kind, str]], now: datetime) -> None:
    """Answers are due for these (screening, kind, SOP instance UID), unless they were asked for."""
    rows = [
        {
            "screening_id": screening,
            "kind": kind,
            "sop_instance_uid": uid,
            "state": "due",
            "attempts": 0,
            "due_at": now,
        }
        for screening, kind, uid in wanted
    ]
    if rows:
        with engine.begin() as connection:
            connection.execute(insert(Answer).on_conflict_do_nothing(), rows)


def due(engine: Engine, state: Literal["due", "made"], now: datetime, limit: int) -> list[Due]:
    """Answers in this state whose moment has come, the longest waiting first."""
    columns = (Answer.id, Answer.screening_id, Answer.kind, Answer.sop_instance_uid)
    asked = select(*columns, Answer.state, Answer.file, Answer.attempts)
    asked = asked.where(Answer.state == state, Answer.due_at <= now)
    with engine.connect() as connection:
        return [_due(row) for row in connection.execute(asked.order_by(Answer.due_at).limit(limit))]


def settle(engine: Engine, answer_id: int, now: datetime, **values: object) -> None:
    """Write down what became of an answer: new values of its row."""
    with engine.begin() as connection:
        connection.execute(
            update(Answer).where(Answer.id == answer_id).values({"due_at": now, **values})
        )


def _due(row: Row[int, int, str, str, str, str | None, int]) -> Due:
    return Due(*row)  # type: ignore[arg-type]  # the database checks the kind
