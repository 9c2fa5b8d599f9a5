"""What questions, a batch and the worklist cost at a site of very many results.

    python -m bench.store --files 1000000

Prints milliseconds, the best of several repeats; the site is made in a temporary folder.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from bench.synthetic import fill
from worker.config import Config
from worker.intake.found import Found
from worker.records import PreparedFilm, Record, Tags
from worker.report.site import broken_pages, write_worklist
from worker.site import hold_site, init_site
from worker.store.outcomes import Screened, finish
from worker.store.queries import Filter, counts_by_decision, results, runs
from worker.store.work import Item, begin_attempt, record

_BATCH = 32
_DAY = datetime(2026, 2, 1, tzinfo=UTC)
QUESTIONS = {
    "nothing": Filter(),
    "decision": Filter(decision="INDETERMINATE"),
    "decision that nobody gave": Filter(decision="ABSENT"),
    "status": Filter(status="failed"),
    "reason": Filter(reason="lateral-view"),
    "since": Filter(since=_DAY),
    "until": Filter(until=_DAY),
    "decision, since": Filter(decision="PNEUMONIA", since=_DAY),
    "status, since": Filter(status="failed", since=_DAY),
    "min-probability, rare": Filter(min_probability=0.9999),
    "min-probability, all": Filter(min_probability=0.0),
    "max-probability": Filter(max_probability=0.5),
    "source": Filter(source="/archive/2016"),
    "run": Filter(run=1),
    "sha256": Filter(sha256="00" * 32),
}


def main() -> None:
    """Fill a site and print what things cost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        config, _ = init_site(Path(scratch) / "site")
        with hold_site(config) as engine:
            fill(engine, given.files, given.seed)
            for name, ms in measure(config, engine).items():
                print(f"{name:<46} {ms:9.1f} ms")


def measure(config: Config, engine: Engine) -> dict[str, float]:
    """Milliseconds of each question (50 rows), of a batch's rows, and of the worklist."""

    def ask(wanted: Filter) -> Callable[[], object]:
        limited = Filter(**{**vars(wanted), "limit": 50})
        return lambda: list(results(engine, limited))

    site, number = config.site, count()
    took = {f"query: {name}": _best(ask(wanted)) for name, wanted in QUESTIONS.items()}
    took["status: counts"] = _best(lambda: counts_by_decision(engine))
    took["status: five runs"] = _best(lambda: runs(engine, 5))
    took[f"rows of {_BATCH} films"] = _best(lambda: _batch(engine, next(number)), 20)
    now = datetime.now(UTC)
    took["worklist, its first ten pages of results"] = _best(
        lambda: write_worklist(site, engine, now, at_most=10), 1
    )
    took["worklist, one page of results due"] = _best(
        lambda: write_worklist(site, engine, now, at_most=1)
    )
    took["start: which pages are missing (all are)"] = _best(lambda: broken_pages(site, engine), 1)
    return took


def _best(step: Callable[[], object], repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def _batch(engine: Engine, number: int) -> None:
    """Record a batch of new files, count the attempt, and write its outcomes."""
    names = [f"/bench/{number}/{index}.dcm" for index in range(_BATCH)]
    found = [Found("/bench", name, Path(name), 1, 1) for name in names]
    now = datetime.now(UTC)
    items = record(engine, found, 1, 1, now)
    begin_attempt(engine, items, 1, 1)
    finish(engine, [_screened(item) for item in items], run_id=1, model_id=1, now=now)


def _screened(item: Item) -> Screened:
    sha256 = f"{item.id:064x}"
    says = Record(
        file=item.found.file,
        sha256=sha256,
        decision="NORMAL",
        probability=0.1,
        threshold=0.6,
        guard_score=0.2,
        guard_threshold=0.5,
        reason=None,
        message="",
        model="bench",
        weights_sha256=sha256,
    )
    pixels, grid = np.zeros((2, 2), np.float32), np.zeros((7, 7), np.float32)
    film = PreparedFilm(sha256, pixels, b"", "PNG", 2, 2, Tags(), (), None)
    return Screened(item, says, film, grid, f"films/{sha256}.html", f"pictures/{sha256}", None)


if __name__ == "__main__":
    main()
