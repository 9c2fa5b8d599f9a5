"""Answers in DICOM that were made and have not arrived, by what their last attempt met."""

from sqlalchemy import Engine, func, select

from worker.store.tables import Answer


def unsent(engine: Engine) -> list[tuple[str | None, int]]:
    """(why, how many), the most frequent first; `None` for those that were not tried yet."""
    count = func.count().label("count")
    asked = select(Answer.message, count).where(Answer.state == "made").group_by(Answer.message)
    with engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(asked.order_by(count.desc()))]
