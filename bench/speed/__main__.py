"""Measure, keep and show: `make bench`, or one part of it.

python -m bench.speed                      all parts
python -m bench.speed backfill watch       these, interleaved
python -m bench.speed --quick              small sizes, for a look
python -m bench.speed report               tables and plots into docs/PERFORMANCE.md
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.speed import database, ends, firstview, growth, latency, manifest, startup
from bench.speed.facts import ROOT, machine_facts
from bench.speed.films import Mix, jpeg_mix, small_mix
from bench.speed.stages import MIXES
from bench.speed.tables import fill_in, table

PARTS = (*ends.PARTS, "latency", "memory", "scaling", "rerun", "query", "startup", "view")
DOCUMENT = ROOT / "docs" / "PERFORMANCE.md"
RESULTS = ROOT / "build" / "bench"

Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much each part measures."""

    ends: dict[str, ends.Plan]
    drops: int
    memory: tuple[int, ...]
    scaling: tuple[int, ...]
    finished: int
    rows: int
    shown: int
    repeats: int


FULL = Sizes(
    ends={"jpeg": ends.Plan(480, 3, 5), "dicom": ends.Plan(120, 2, 3)},
    drops=100,
    memory=(2_000, 20_000),
    scaling=(1_000, 10_000, 100_000),
    finished=100_000,
    rows=1_000_000,
    shown=10_000,
    repeats=10,
)
QUICK = Sizes(
    ends={"jpeg": ends.Plan(64, 1, 2), "dicom": ends.Plan(10, 0, 1)},
    drops=10,
    memory=(200, 1_000),
    scaling=(200, 1_000),
    finished=2_000,
    rows=10_000,
    shown=1_000,
    repeats=2,
)


@dataclass(frozen=True)
class Bench:
    """One call of the bench: what it measures where. `since` is when it began."""

    sizes: Sizes
    quick: bool
    out: Path
    resume: bool
    since: str

    def measure(self, parts: Sequence[str]) -> Iterator[tuple[str, Row]]:
        """Measure parts in the order of PARTS; each result is kept before the next begins."""
        self.out.mkdir(parents=True, exist_ok=True)
        wanted = [part for part in PARTS if part in parts]
        with tempfile.TemporaryDirectory(dir=self.out, prefix="scratch-") as folder:
            scratch = Path(folder)
            facts = machine_facts(scratch)
            for part, found in self._found(scratch, wanted):
                result = {
                    "part": part,
                    "quick": self.quick,
                    "facts": facts,
                    "found": found,
                }
                keep(self.out / f"{part}.json", result)
                yield part, result

    def _found(self, scratch: Path, parts: Sequence[str]) -> Iterator[tuple[str, Row]]:
        yield from self._ends(scratch, [part for part in parts if part in ends.PARTS])
        alone = {
            "latency": lambda: latency.measure(scratch, jpeg_mix(), self.sizes.drops),
            "memory": lambda: self._grown(scratch, jpeg_mix(), self.sizes.memory),
            "scaling": lambda: self._grown(scratch, self._scaling_mix(), self.sizes.scaling),
            "rerun": lambda: manifest.measure(scratch, jpeg_mix(), self.sizes.finished),
            "query": lambda: database.measure(scratch, self.sizes.rows, self.sizes.repeats),
            "startup": lambda: startup.measure(scratch, self.sizes.repeats),
            "view": lambda: firstview.measure(scratch, self.sizes.shown, self.sizes.repeats),
        }
        for part in parts:
            if part in alone:
                yield part, alone[part]()

    def _scaling_mix(self) -> Mix:
        """Small films where there are many of them; else those of `memory`, measured but once."""
        return jpeg_mix() if self.quick else small_mix()

    def _ends(self, scratch: Path, parts: Sequence[str]) -> Iterator[tuple[str, Row]]:
        found: dict[str, Row] = {}
        for kind, plan in self.sizes.ends.items() if parts else ():
            if mix := MIXES[kind]():
                found[kind] = ends.measure(scratch, kind, mix, plan, parts)
                shutil.rmtree(scratch / f"archive-{kind}")
        for part in parts:
            yield part, {kind: ends.of_part(part, row) for kind, row in found.items()}

    def _grown(self, scratch: Path, mix: Mix, counts: Sequence[int]) -> Row:
        """Backfills of these sizes, but for those that were done: see `_counts`."""
        rows = []
        for count in counts:
            file = self.out / f"growth-{mix.name}-{count}.json"
            kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
            facts = machine_facts(scratch)
            if not kept or not self._counts(kept["facts"], facts):
                kept = {"facts": facts, "found": growth.measure(scratch, mix, count)}
                keep(file, kept)
            rows.append(kept["found"])
        shutil.rmtree(scratch / f"archive-{mix.name}", ignore_errors=True)
        return {"rows": rows, **growth.summary(rows)}

    def _counts(self, kept: Row, now: Row) -> bool:
        """Whether a run that was kept is of this call, or with `resume` of an earlier one."""
        same = all(kept[key] == now[key] for key in ("revision", "cpu", "cores"))
        return same and (self.resume or kept["at"] >= self.since)


def keep(file: Path, result: Row) -> None:
    """Write a result whole or not at all."""
    made = file.with_suffix(".part")
    made.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    made.replace(file)


def kept(folder: Path) -> dict[str, Row]:
    """The results that are there, by part."""
    files = {part: folder / f"{part}.json" for part in PARTS}
    return {
        part: json.loads(file.read_text(encoding="utf-8"))
        for part, file in files.items()
        if file.exists()
    }


def report(folder: Path) -> None:
    """Put all results into docs/PERFORMANCE.md, with their plots."""
    from bench.speed.plots import draw

    results = kept(folder)
    text = fill_in(DOCUMENT.read_text(encoding="utf-8"), results)
    DOCUMENT.write_text(text, encoding="utf-8")
    draw(results, DOCUMENT.parent / "images")


def main() -> None:
    """Measure the named parts, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "report", []], metavar="PART")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look")
    parser.add_argument("--resume", action="store_true", help="keep long runs of this revision")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    if given.parts == ["report"]:
        report(given.out)
        return
    sizes = QUICK if given.quick else FULL
    since = datetime.now(UTC).isoformat(timespec="seconds")
    start = time.perf_counter()
    bench = Bench(sizes, given.quick, given.out.resolve(), given.resume, since)
    for part, result in bench.measure(given.parts or PARTS):
        print(f"\n## {part}\n\n{table(part, result)}", flush=True)
    from bench.speed.plots import draw  # matplotlib: not before everything is measured

    draw(kept(given.out), given.out)
    print(f"\n{time.perf_counter() - start:.0f} s; results and plots in {given.out}")


if __name__ == "__main__":
    main()
