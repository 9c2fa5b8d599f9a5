"""What a question in SQL gives."""

from collections.abc import Iterator
from dataclasses import dataclass

Value = str | int | float | bytes | None


@dataclass(frozen=True)
class Answer:
    """What a statement gives: the names of its columns, and its rows while they are read."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Value, ...]]
