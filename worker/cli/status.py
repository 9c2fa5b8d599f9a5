"""`screen status`: what the worker does, what waits, what it did."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli import style
from worker.cli.options import chosen_config, config_option

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.config import Config

_RUNS_SHOWN = 5
_FORGOTTEN_S = 7 * 86_400  # a worker that was silent for so long does not come back


@click.command()
@config_option
def status(config_file: Path | None) -> None:
    """Show what the worker does: who holds the site, what waits, counts, the last runs.

    \b
    Example:
      screen status
    """
    from worker.site import read_site

    config = chosen_config(config_file).require_site()
    for line in _site(config):
        click.echo(line)
    with read_site(config) as engine:
        if not config.database.is_file:
            for line in _workers(engine, config.cluster.lease_s):
                click.echo(line)
        for line in (*_backlog(engine), *_failures(engine), *_retention(engine), *_runs(engine)):
            click.echo(line)


def _workers(engine: "Engine", lease_s: float) -> Iterator[str]:
    """The workers of a database on a server, wherever they run, that have not ended."""
    from worker.store.workers import workers

    there = [e for e in workers(engine) if e.ended_at is None and e.silent_s < _FORGOTTEN_S]
    for each in reversed(there):
        words = f"sign of life {each.silent_s:.0f} s ago"
        if each.silent_s > lease_s:
            words = style.bad(f"silent for {each.silent_s:.0f} s, others take its films")
        yield f"worker   {each.host}, process {each.pid}: {words}"
    if not there:
        yield f"worker   {style.wait('none is running')}"


def _site(config: "Config") -> Iterator[str]:
    from worker.heartbeat import health_of
    from worker.intake.scan import survey
    from worker.site import holder

    yield f"site     {config.root}"
    if config.database.is_file:
        pid = holder(config)
        yield f"worker   {f'process {pid}' if pid else style.wait('none is running')}"
        found = health_of(config.local_state, time.monotonic(), strict=True)
        if pid and found.pulse and found.pulse.pid == pid:
            yield f"state    {found.words if found.healthy else style.bad(found.words)}"
    there = survey(config.site.inbox)
    left = ", ".join(f"{count} of kind {kind}" for kind, count in sorted(there.left_alone.items()))
    unreadable = f"; {there.unreadable} entries cannot be read" if there.unreadable else ""
    yield f"inbox    {there.files} files{f'; left alone: {left}' if left else ''}{unreadable}"


def _backlog(engine: "Engine") -> Iterator[str]:
    from worker.store.counts import counts_by_decision, waiting_files_count

    for name, inbox in (("in work", True), ("archives", False)):
        waiting = waiting_files_count(engine, inbox=inbox)
        more = "" if inbox or not waiting else "; run the backfill again"
        yield f"{name:<8} {waiting} files wait{more}"
    for name, count in counts_by_decision(engine).items():
        yield f"  {name:<14} {count}"


def _failures(engine: "Engine") -> Iterator[str]:
    from worker.store.failures import counts_by_resolution

    if counts := counts_by_resolution(engine):
        said = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
        yield f"failures {said}: screen failed list"


def _retention(engine: "Engine") -> Iterator[str]:
    from worker.store.removals import last_removal

    if last := last_removal(engine):
        yield (
            f"removed  {last.films} films and {last.reports} reports by retention on "
            f"{last.at:%Y-%m-%d}, {last.freed_bytes / 1e9:.3f} GB"
        )


def _runs(engine: "Engine") -> Iterator[str]:
    from worker.store.runs import runs

    for run in runs(engine, limit=_RUNS_SHOWN):
        ended = f"{run.finished_at:%Y-%m-%d %H:%M:%S}" if run.finished_at else "running"
        counts = ", ".join(f"{name} {count}" for name, count in run.counts.items() if count)
        yield (
            f"run {run.run:<4} {run.kind:<8} {run.started_at:%Y-%m-%d %H:%M:%S} to {ended} "
            f"({run.note or 'UTC'}): {counts or 'nothing yet'}"
        )
