"""The bench's pictures: where the time goes, throughput and memory over time, cost against work."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.speed import ends, figures

Row = dict[str, Any]
_SIZE_IN = (8.0, 4.0)
_DPI = 90  # small enough to be committed


def draw(results: Mapping[str, Row], folder: Path) -> list[Path]:
    """Draw what these parts' results allow, as bench-NAME.png."""
    drawn = []
    for part, paint in _PLOTS.items():
        if part in results:
            figure, axes = plt.subplots(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
            paint(axes, results[part]["found"])
            drawn.append(folder / f"bench-{part}.png")
            figure.savefig(drawn[-1])
            plt.close(figure)
    return drawn


def _stages(axes: Axes, found: Row) -> None:
    """Stacked stages, beside what the whole takes."""
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    bars = []
    for each in found.values():
        said = ends.summary(each)
        bars.append((f"{each['mix']}: stages, one core each", said["stages"], said))
        for run, row in said["runs"].items():
            if run in ("backfill", "watch"):
                ms = 1000 * each["cores"] / row["steady_films_per_s"]["median"]
                bars.append((f"{each['mix']}: {run}, cores × time", {"whole": ms}, said))
    for place, (_, stages, _) in enumerate(bars):
        left = 0.0
        for number, (stage, ms) in enumerate(stages.items()):
            mark = "" if stage in figures.UNAVOIDABLE or stage == "whole" else "////"
            colour = "0.6" if stage == "whole" else colours[number]
            label = stage if place == 0 else None
            axes.barh(place, ms, left=left, color=colour, hatch=mark, label=label, edgecolor="w")
            left += ms
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("ms of one core per film; hatched: not in the additive limit")
    axes.figure.legend(loc="outside lower center", fontsize="x-small", ncols=6)


def _latency(axes: Axes, found: Row) -> None:
    waits = sorted(found["waits_s"])
    axes.step(waits, [(n + 1) / len(waits) for n in range(len(waits))], where="post")
    axes.axvline(1.0, color="0.6", linestyle="--")
    axes.set(xlabel="seconds from drop to page, beyond settling", ylabel="share of films")
    axes.set(xlim=(0, None), ylim=(0, 1.02))


def _memory(axes: Axes, found: Row) -> None:
    """Throughput and memory of the largest run over its time."""
    row = max(found["rows"], key=lambda each: each["films"])
    axes.plot(*zip(*row["rate_over_time"], strict=True), color="tab:blue", linewidth=0.8)
    axes.set(xlabel=f"seconds, {row['films']:,} films", ylim=(0, None))
    axes.set_ylabel("films/s", color="tab:blue")
    beside = axes.twinx()
    times, sizes = zip(*row["memory_over_time"], strict=True)
    beside.plot(times, [size / 1e9 for size in sizes], color="tab:red")
    beside.set_ylabel("PSS of all processes, GB", color="tab:red")
    beside.set_ylim(0, None)


def _scaling(axes: Axes, found: Row) -> None:
    """Time of the whole against films, with the straight line through the first size."""
    films = [row["films"] for row in found["rows"]]
    seconds = [row["seconds"] for row in found["rows"]]
    per_film = found["rows"][0]["ms_per_film"] / 1000
    start = seconds[0] - per_film * films[0]
    axes.loglog(films, seconds, "o-", label="measured")
    line = [start + per_film * count for count in films]
    axes.loglog(films, line, "--", color="0.6", label="start-up + time per film of the first size")
    for row in found["rows"]:
        text, at = f"{row['ms_per_film']:.1f} ms/film ", (row["films"], row["seconds"])
        axes.annotate(text, at, ha="right", va="bottom")
    axes.margins(0.15)
    axes.set(xlabel="films", ylabel="seconds")
    axes.legend()


_PLOTS: dict[str, Callable[[Axes, Row], None]] = {
    "stages": _stages,
    "latency": _latency,
    "memory": _memory,
    "scaling": _scaling,
}
