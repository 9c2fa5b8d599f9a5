"""How long work says how far it is, without knowing who listens."""

from typing import Protocol


class Tell(Protocol):
    """Is told of each piece of long work."""

    def __call__(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        """`done` of `total` units of `what` are done; 0 in total where nobody knows it."""


def nobody(what: str, done: int, total: int, unit: str, note: str = "") -> None:
    """Listen to nothing."""
