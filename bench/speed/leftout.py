"""What `screen backfill --report` saves: time, CPU and disk by which films get a report.

    python -m bench.speed.leftout --films 160 --repeats 2

prints JSON: of each choice the seconds, the CPU seconds of all processes, the bytes in reports/
and in the database. Sites are fresh, and the choices take turns; the best of the repeats counts.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from bench.speed.films import grow, jpeg_mix
from bench.speed.site import ended, new_site, screen

_CHOICES = ("all", "positive", "none")

Row = dict[str, Any]


def measure(scratch: Path, count: int, repeats: int) -> dict[str, Row]:
    """By choice; films are those of the bench's mix, half of them positive."""
    archive = grow(scratch / "archive", jpeg_mix(), count)
    found: dict[str, Row] = {}
    for _ in range(repeats):
        for choice in _CHOICES:
            now = _backfill(scratch / "site", archive, count, choice)
            best = found.setdefault(choice, now)
            for name in ("seconds", "cpu_s"):
                best[name] = min(best[name], now[name])
    return found


def _backfill(site: Path, archive: Path, count: int, choice: str) -> Row:
    new_site(site)
    done = screen(site, "backfill", archive, "--report", choice)
    ended(site, count)
    files = [path for path in (site / "reports").rglob("*") if path.is_file()]
    return {
        "films": count,
        "seconds": done.seconds,
        "cpu_s": done.cpu_s,
        "reports": sum(path.parent.name == "films" for path in files),
        "report_bytes": sum(path.stat().st_blocks * 512 for path in files),
        "database_bytes": (site / "screen.db").stat().st_size,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_SCRATCH")) as scratch:
        print(json.dumps(measure(Path(scratch), given.films, given.repeats), indent=1))


if __name__ == "__main__":
    main()
