"""The arithmetic of the bench: limits, shares, steady rates, percentiles. No clock, no files."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from math import ceil
from statistics import median

# What no program can leave out: the film read, decoded and shrunk once for network and report, one
# forward pass, one overlay (picture and heat map) encoded.
UNAVOIDABLE = ("read", "decode", "model input", "network", "shrink", "picture JPEG", "heat PNG")
# What overlays, pages and pictures cost on top of predictions alone.
OVERLAYS = ("shrink", "picture JPEG", "heat PNG", "page", "report files")
_ONE_BATCH_S = 0.01  # stamps closer to each other are of one batch

Stages = Mapping[str, float]  # ms per film on one core
Stamp = tuple[float, int]  # (seconds, films finished by then, counted from the start)


def additive_limit(stages: Stages, cores: int) -> float:
    """Milliseconds per film of the unavoidable stages, spread over all cores."""
    return sum(stages[name] for name in UNAVOIDABLE) / cores


def gpu_limit(stages: Stages, cores: int) -> float:
    """Milliseconds per film where a GPU predicts: reading and decoding on all cores."""
    return (stages["read"] + stages["decode"]) / cores


def overlay_cost(stages: Stages) -> float:
    """What overlays and reports add to predictions alone, by the sums of their stages."""
    added = sum(stages[name] for name in OVERLAYS)
    return added / (sum(stages.values()) - added)


def cumulated(films_at: Sequence[tuple[float, int]]) -> list[Stamp]:
    """(seconds, films that ended then) → (seconds, films that had ended by then)."""
    counts = accumulate(count for _, count in films_at)
    return [(at, total) for (at, _), total in zip(films_at, counts, strict=True)]


def steady_rate(stamps: Sequence[Stamp]) -> float | None:
    """Films per second between a tenth and nine tenths of the films.

    So neither start nor end counts, nor what was begun ahead. `None` with too few batches to tell.
    """
    stamps = _bursts(stamps)
    total = stamps[-1][1] if stamps else 0
    inner = [(at, done) for at, done in stamps if total * 0.1 <= done <= total * 0.9]
    if len(inner) < 3 or inner[-1][0] <= inner[0][0]:
        return None
    return (inner[-1][1] - inner[0][1]) / (inner[-1][0] - inner[0][0])


def _bursts(stamps: Sequence[Stamp]) -> list[Stamp]:
    """The last stamp of each batch: its films end together, and half a batch took no time."""
    ends = [now for now, then in pairwise(stamps) if then[0] - now[0] > _ONE_BATCH_S]
    return [*ends, *stamps[-1:]]


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that at least this share of all does not exceed (nearest rank)."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def middle(values: Sequence[float]) -> dict[str, float]:
    """Median with the ends, as every repeated figure is reported."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def medians(rows: Sequence[Stages]) -> dict[str, float]:
    """Each stage's median over repeated measurements."""
    return {name: median(row[name] for row in rows) for name in rows[0]}


def between(before: float, after: float) -> float:
    """A limit for what ran between two measurements of it: their mean."""
    return (before + after) / 2


def off_level(values: Sequence[float]) -> float:
    """How far the extremes lie apart, as a share of the least."""
    return max(values) / min(values) - 1
