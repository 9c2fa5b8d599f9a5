"""Whole runs against the additive limit and against a plain script, interleaved in one run.

The stages are measured before the first and after every round of whole runs: a round's limit is
the mean of the two around it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.speed import figures
from bench.speed.facts import cores
from bench.speed.films import Mix, drop, grow
from bench.speed.processes import Done, environment, run
from bench.speed.site import configure, ended, new_site, screen, settle_s
from worker.inference.openvino_network import is_installed

OPENVINO = "backfill, OpenVINO"
PARTS = ("stages", "backfill", "watch", "plain")
_OF_PART = {  # the runs that a part needs
    "stages": (),
    "backfill": ("backfill", "predictions", "predictions and pictures"),
    "watch": ("watch",),
    "plain": ("backfill", OPENVINO, "plain 224 px", "plain 1024 px"),
}
_LEAST_PICTURE_PX = 256  # what [report] picture_px allows
# PyPI's torchvision stops beside a CPU build of torch: see models/torchvision_compat.py
_COMPATIBLE = """import runpy, sys
from models.torchvision_compat import torchvision_models
torchvision_models()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much to measure: films a run, rounds, repeats of each stage."""

    films: int
    rounds: int
    repeats: int


def measure(scratch: Path, kind: str, mix: Mix, plan: Plan, parts: Sequence[str]) -> Row:
    """Rounds of everything that `parts` need, over `plan.films` films of a mix.

    `kind` is the mix's name for `bench.speed.stages`. In each of `runs` a row has the rate with
    start-up (`films_per_s`), the steady one, and the share of all cores that was busy.
    """
    archive = grow(scratch / f"archive-{kind}", mix, plan.films)
    wanted = dict.fromkeys(name for part in parts for name in _OF_PART[part] if plan.rounds)
    if not is_installed():
        wanted.pop(OPENVINO, None)
    stages, together = [stages_of(kind, plan.repeats, scratch)], []
    runs: dict[str, list[Row]] = {name: [] for name in wanted}
    for _ in range(plan.rounds):
        for name in wanted:
            runs[name].append(RUNS[name](scratch, archive, plan.films))
        together.append(stages_of(kind, plan.repeats, scratch, copies=cores()))
        stages.append(stages_of(kind, plan.repeats, scratch))
    if not together:
        together.append(stages_of(kind, plan.repeats, scratch, copies=cores()))
    return {
        "mix": mix.name,
        "sources": len(mix.sources),
        "mean_bytes": round(mix.mean_bytes()),
        "films": plan.films,
        "cores": cores(),
        "stages": [row["stages"] for row in stages],
        "stages_together": [row["stages"] for row in together],
        "network": [row["network"] for row in stages],
        "bare": [row["bare"] for row in stages],
        "runs": runs,
    }


def stages_of(kind: str, repeats: int, scratch: Path, copies: int = 1) -> Row:
    """The stages of one process alone, or the mean of as many as run at once."""
    command = [sys.executable, "-m", "bench.speed.stages"]
    command += ["--mix", kind, "--repeats", str(repeats)]
    there = environment() | {"BENCH_SCRATCH": str(scratch)}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=there)
        for _ in range(copies)
    ]
    said = [process.communicate()[0] for process in started]
    for process in started:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    found = [json.loads(text) for text in said]
    return {
        key: {name: sum(row[key][name] for row in found) / copies for name in found[0][key]}
        for key in found[0]
    }


def backfill(scratch: Path, archive: Path, films: int) -> Row:
    """`screen backfill` in a fresh site: overlays, pages, rows."""
    return _backfill(new_site(scratch / "site"), archive, films)


def backfill_with_openvino(scratch: Path, archive: Path, films: int) -> Row:
    """The same with the optional engine."""
    site = new_site(scratch / "site")
    configure(site, "engine", "openvino")
    return _backfill(site, archive, films)


def _backfill(site: Path, archive: Path, films: int) -> Row:
    done = screen(site, "backfill", archive)
    return _row(films, done.seconds, done, _stamps(site, films, done))


def watch(scratch: Path, archive: Path, films: int) -> Row:
    """`screen watch --once` with all films in the inbox before; without the time to settle."""
    site = new_site(scratch / "site")
    drop(archive, site / "inbox", films)
    os.sync()  # what the copies still owe the disk is not the worker's
    done = screen(site, "watch", "--once")
    settled = settle_s(site)
    return _row(films, done.seconds - settled, done, _stamps(site, films, done)) | {
        "settle_s": settled
    }


def predictions(scratch: Path, archive: Path, films: int) -> Row:
    """`screen classify` with the smallest picture it allows: predictions, as alone as they come."""
    return _classify(scratch, archive, films, picture_px=_LEAST_PICTURE_PX)


def predictions_and_pictures(scratch: Path, archive: Path, films: int) -> Row:
    """`screen classify` as configured: it makes the report's picture, but no page and no row."""
    return _classify(scratch, archive, films, picture_px=None)


def _classify(scratch: Path, archive: Path, films: int, picture_px: int | None) -> Row:
    site = new_site(scratch / "site")
    if picture_px:
        configure(site, "picture_px", picture_px)
    done = screen(site, "classify", "--json", archive)
    answered = [(at, line) for at, line in done.lines if line.startswith("{")]
    _require(len(answered), films, "classify")
    return _row(films, done.seconds, done, [(at, i + 1) for i, (at, _) in enumerate(answered)])


def plain(scratch: Path, archive: Path, films: int, side: int) -> Row:
    """The plain script on the same films."""
    out = scratch / "plain"
    shutil.rmtree(out, ignore_errors=True)
    script = Path(__file__).parent / "plain.py"
    command = [sys.executable, "-c", _COMPATIBLE, script, archive, out, "--side", str(side)]
    done = run(command)
    _require(len(list(out.glob("*.jpg"))), films, "the plain script")
    return _row(films, done.seconds, done, [(at, int(line)) for at, line in done.lines])


def _require(found: int, expected: int, who: str) -> None:
    if found != expected:
        raise RuntimeError(f"{who} answered {found} of {expected} films")


def _stamps(site: Path, films: int, done: Done) -> list[figures.Stamp]:
    return figures.cumulated([(at - done.began, count) for at, count in ended(site, films)])


def _row(films: int, seconds: float, done: Done, stamps: Sequence[figures.Stamp]) -> Row:
    return {
        "seconds": seconds,
        "films_per_s": films / seconds,
        "steady_films_per_s": figures.steady_rate(stamps),
        "busy": done.busy,
    }


Run = Callable[[Path, Path, int], Row]
RUNS: dict[str, Run] = {
    "backfill": backfill,
    OPENVINO: backfill_with_openvino,
    "predictions": predictions,
    "predictions and pictures": predictions_and_pictures,
    "watch": watch,
    "plain 224 px": lambda scratch, archive, films: plain(scratch, archive, films, 224),
    "plain 1024 px": lambda scratch, archive, films: plain(scratch, archive, films, 1024),
}


def summary(found: Row) -> Row:
    """What a run of `measure` says: medians over its rounds, ratios within each round."""
    count = found["cores"]
    rows, together = found["stages"], found["stages_together"]
    limits = [figures.additive_limit(row, count) for row in rows]
    limits_together = [figures.additive_limit(row, count) for row in together]
    around = [figures.between(before, after) for before, after in pairwise(limits)]
    said: Row = {
        "stages": figures.medians(rows),
        "stages_together": figures.medians(together),
        "limit_ms": figures.middle(limits),
        "limit_together_ms": figures.middle(limits_together),
        "gpu_limit_ms": figures.middle([figures.gpu_limit(row, count) for row in rows]),
        "overlay_cost_by_stages": figures.middle([figures.overlay_cost(row) for row in rows]),
        "runs": {},
    }
    runs = found["runs"]
    for name, ran in runs.items():
        rates = [_rate(row) for row in ran]
        said["runs"][name] = {
            "steady_films_per_s": figures.middle(rates),
            "films_per_s": figures.middle([row["films_per_s"] for row in ran]),
            "busy": figures.middle([row["busy"] for row in ran]),
        }
        if name != OPENVINO:  # the limit is of torch's network
            said["runs"][name] |= {
                "share": figures.middle(_shares(rates, around)),
                "share_together": figures.middle(_shares(rates, limits_together)),
            }
    for name, ran in runs.items():
        ours = [each for each in ("backfill", OPENVINO) if each in runs and each != name]
        said["runs"][name]["against_it"] = {
            each: {
                "steady": _ratios(runs[each], ran, _rate),
                "with_start": _ratios(runs[each], ran, lambda row: float(row["films_per_s"])),
            }
            for each in ours
        }
    return said


def _rate(row: Row) -> float:
    """The steady rate, where the run was long enough to have one."""
    return float(row["steady_films_per_s"] or row["films_per_s"])


def _shares(rates: Sequence[float], limits: Sequence[float]) -> list[float]:
    """Of the limit, round by round: milliseconds that a film must take over those it takes."""
    return [limit * rate / 1000 for limit, rate in zip(limits, rates, strict=True)]


def _ratios(ours: Sequence[Row], theirs: Sequence[Row], rate: Callable[[Row], float]) -> Row:
    return figures.middle([rate(a) / rate(b) for a, b in zip(ours, theirs, strict=True)])


def of_part(part: str, found: Row) -> Row:
    """What belongs to one part of a run that measured several at once; all of it beside stages."""
    if part == "stages":
        return found
    return found | {"runs": {n: r for n, r in found["runs"].items() if n in _OF_PART[part]}}
