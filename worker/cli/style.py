"""Colour on a terminal: it stresses what the words say, and never says anything alone.

Whether there is any, `chosen` decides once: click takes it out again where the output is no
terminal. JSON and CSV are never styled.
"""

import os

import click

from worker.records import Decision, Labels, Role, role_of

FAILED = "FAILED"  # what a table says where there is no decision

_OF_ROLES = {
    Role.POSITIVE: {"fg": "red", "bold": True},
    Role.INDETERMINATE: {"fg": "yellow"},
    Role.REFUSED: {"fg": "magenta"},
    Role.NEGATIVE: {},
}


def chosen() -> bool | None:
    """Whether to colour; `None` leaves it to the terminal.

    NO_COLOR (no-color.org) and a dumb terminal forbid it, FORCE_COLOR wants it.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return True if os.environ.get("FORCE_COLOR", "0") not in {"", "0"} else None


def decision(word: str, labels: Labels, width: int = 0) -> str:
    """A decision by a model with these labels, or FAILED, filled up to `width` columns."""
    if word == FAILED:
        return bad(word, width)
    known = word in (*labels, Decision.INDETERMINATE, Decision.REFUSED)
    look = _OF_ROLES[role_of(word, labels)] if known else {}
    return click.style(f"{word:<{width}}", **look) if look else f"{word:<{width}}"  # type: ignore[arg-type]


def good(text: str, width: int = 0) -> str:
    """What is as it should be."""
    return click.style(f"{text:<{width}}", fg="green")


def bad(text: str, width: int = 0) -> str:
    """What somebody should look at now."""
    return click.style(f"{text:<{width}}", fg="red", bold=True)


def wait(text: str, width: int = 0) -> str:
    """What somebody should know."""
    return click.style(f"{text:<{width}}", fg="yellow")
