"""Long lists in pieces: statements have a limit of variables."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def pieces(rows: Sequence[_T], count: int) -> Iterator[Sequence[_T]]:
    """The rows in their order, at most `count` at a time."""
    return (rows[start : start + count] for start in range(0, len(rows), count))
