"""Bars on stderr: how far long work is, how fast, how long it will still take.

Where stderr is no terminal nothing is shown at all. Lines that are written meanwhile stand above
the bar: those of the log by themselves, others by `say`.
"""

import locale
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile

from worker.progress import Tell

if TYPE_CHECKING:
    from worker.heartbeat import Heartbeat

_DELAY_S = 0.4  # work that is done by then needs no bar
_UNKNOWN = "{desc}: {elapsed}{postfix}"  # of work whose length nobody knows


def is_shown() -> bool:
    """Whether bars are seen: stderr is a terminal that can take a line back."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def bar(
    what: str, total: int | None, unit: str, *, initial: int = 0, leave: bool = False
) -> Iterator["tqdm[Any]"]:
    """Show a bar of `total` units; `leave` lets it stand at the end.

    0 where nobody knows how many, `None` where it comes to be known (`lengthen`). No bar for a
    single one: it would stand at nothing until it is gone.
    """
    ascii_only = locale.getencoding().upper() != "UTF-8"
    shown: tqdm[Any] = tqdm(
        desc=what or None,
        total=total or None,
        initial=initial,
        unit="B" if unit == "B" else f" {unit}",
        unit_scale=unit == "B",
        disable=total == 1 or not is_shown(),
        dynamic_ncols=True,
        ascii=ascii_only or None,
        leave=leave,
        delay=_DELAY_S,
        smoothing=0.1,
        bar_format=_UNKNOWN if total == 0 else None,
    )
    with shown, _log_above(shown):
        try:
            yield shown
        finally:
            if not leave:
                shown.clear()  # tqdm forgets what `say` made it draw before the delay was over


def lengthen(shown: "tqdm[Any]", total: int) -> None:
    """There are more than was known; never fewer."""
    shown.total = max(total, shown.total or 0) or None


@contextmanager
def _log_above(shown: "tqdm[Any]") -> Iterator[None]:
    """Write the log above the bar."""
    of_stderr = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    if shown.disable:
        of_stderr = []
    for handler in of_stderr:
        handler.setStream(DummyTqdmFile(sys.stderr))
    try:
        yield
    finally:
        for handler in of_stderr:
            handler.setStream(sys.stderr)


def say(line: object, *, err: bool = False) -> None:
    """Write a line above the bar, if there is one; else just write it."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        click.echo(line, err=err)
        return
    with tqdm.external_write_mode(file=stream):
        click.echo(line, err=err)


@contextmanager
def told() -> Iterator[Tell]:
    """What long work may tell how far it is: a bar for each thing that it does, one at a time."""
    shown = _Told()
    try:
        yield shown
    finally:
        shown.close()


class _Told:
    def __init__(self) -> None:
        self._what: str | None = None
        self._bar: tqdm[Any] | None = None
        self._close: Callable[[], object] = lambda: None

    def __call__(self, what: str, done: int, total: int, unit: str, note: str = "") -> None:
        if self._bar is None or what != self._what or done < self._bar.n:
            self.close()
            opened = bar(what, total, unit, initial=done)
            self._what, self._bar = what, opened.__enter__()
            self._close = lambda: opened.__exit__(None, None, None)
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total > 0:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        self._close()
        self._bar, self._close = None, lambda: None


class Counted:
    """A worker's pulse that also moves a bar: `worker.daemon.Pulse`."""

    def __init__(self, pulse: "Heartbeat", shown: "tqdm[Any]") -> None:
        """Pass every beat on to `pulse`."""
        self._pulse, self._bar = pulse, shown
        self.finished = 0

    def beat(self, state: str, *, cause: str | None = None, finished: int = 0) -> None:
        """Pass it on; more films than were there at first lengthen the bar."""
        self._pulse.beat(state, cause=cause, finished=finished)
        self.finished += finished
        if self._bar.total is not None:
            self._bar.total = max(self._bar.total, self.finished)
        self._bar.update(finished)
