"""Backfills of ever more films: memory of the whole process tree, and time per film."""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.speed import figures
from bench.speed.films import Mix, grow
from bench.speed.processes import Sample
from bench.speed.site import ended, new_site, screen

_SAMPLE_EVERY_S = 0.5
_POINTS = 300  # of a curve

Row = dict[str, Any]


def measure(scratch: Path, mix: Mix, count: int) -> Row:
    """One backfill in a fresh site, watched; then the same command again over the finished archive.

    The archive stays, so that the next size only adds to it.
    """
    archive = grow(scratch / f"archive-{mix.name}", mix, count)
    site = new_site(scratch / "site")
    done = screen(site, "backfill", archive, sample_every_s=_SAMPLE_EVERY_S)
    stamps = figures.cumulated([(at - done.began, films) for at, films in ended(site, count)])
    again = screen(site, "backfill", archive)
    shutil.rmtree(site)
    rate = figures.steady_rate(stamps)
    return {
        "films": count,
        "mix": mix.name,
        "seconds": done.seconds,
        "ms_per_film": 1000 / rate if rate else 1000 * done.seconds / count,
        "ms_per_film_with_start": 1000 * done.seconds / count,
        "busy": done.busy,
        "again_s": again.seconds,
        **memory(done.samples),
        "rate_over_time": rates(stamps),
        "memory_over_time": thinned([[s.at_s, s.pss] for s in done.samples]),
    }


def memory(samples: Sequence[Sample]) -> Row:
    """Peaks of the process tree in bytes."""
    return {
        "peak_pss": max(sample.pss for sample in samples),
        "peak_rss": max(sample.rss for sample in samples),
        "sum_of_peak_rss": max(sample.peak_rss for sample in samples),
        "most_processes": max(sample.processes for sample in samples),
    }


def rates(stamps: Sequence[figures.Stamp]) -> list[list[float]]:
    """[seconds, films/s] in up to 300 equal pieces of the run's commits."""
    step = max(1, len(stamps) // _POINTS)
    chosen = stamps[::step]
    return [
        [later[0], (later[1] - earlier[1]) / (later[0] - earlier[0])]
        for earlier, later in pairwise(chosen)
        if later[0] > earlier[0]
    ]


def thinned(points: Sequence[list[float]]) -> list[list[float]]:
    """Up to 300 points of a curve: of each piece the highest, so that no peak is lost."""
    step = -(-len(points) // _POINTS)
    pieces = [points[i : i + step] for i in range(0, len(points), max(1, step))]
    return [max(piece, key=lambda point: point[1]) for piece in pieces]


def summary(rows: Sequence[Row]) -> Row:
    """How far the sizes lie apart, in memory and in time per film."""
    return {
        "sizes": [row["films"] for row in rows],
        "peaks_apart": figures.off_level([row["peak_pss"] for row in rows]),
        "ms_per_film_apart": figures.off_level([row["ms_per_film"] for row in rows]),
    }
