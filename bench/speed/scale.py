"""The store and the manifest at many millions of rows: what a row costs, and how a start resumes.

    python -m bench.speed.scale --rows 10000000 --listed 200000 --finished 50000
    python -m bench.speed.scale --rows 2000000 --url postgresql+psycopg:///screen?host=/run/pg

prints JSON. The archive is made up, and the database a fresh one: a file in a scratch folder, or
the empty one behind `--url`. Most rows are made by the database itself; the last ones, `--listed`,
go through the lister's own calls, and some are then brought to their end as the pipeline does it.
Folders are walked apart, with real files.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from models.cards import Card, read_card
from models.registry import find_model
from worker.config import Database
from worker.intake.archive import archive_files
from worker.intake.found import Found
from worker.records import PreparedFilm, Record, Tags
from worker.report.site import page_name, picture_name
from worker.store.archives import (
    begin_listing,
    end_listing,
    listing,
    record_listed,
    try_again,
    waiting_after,
    waiting_count,
)
from worker.store.database import open_database, upgrade
from worker.store.outcomes import Screened, finish, screened_contents
from worker.store.work import Item, begin_attempt, begin_run, register_model

SOURCE = "/archive"
_PIECE = 1000  # as the lister records them
BATCH = 32
_READ = 512
_MADE_AT_ONCE = 500_000
_FILES_A_FOLDER = 1000
_IDENTITY = "ef" * 32
_GRID = 7

Row = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """A fresh database with a run in it."""

    engine: Engine
    card: Card
    run_id: int
    model_id: int


_MADE = {
    "sqlite": """
        WITH RECURSIVE numbers(n) AS
            (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :last),
        names(n, name) AS
            (SELECT n, printf('/archive/%06d/%08d.dcm', n / 1000, n) FROM numbers)
        INSERT INTO files ({columns})
        SELECT name, CAST(name AS BLOB), 8000000 + n % 4096, {rest} FROM names""",
    "postgresql": """
        WITH names AS
            (SELECT n, '/archive/' || lpad((n / 1000)::text, 6, '0') || '/'
                       || lpad(n::text, 8, '0') || '.dcm' AS name
             FROM generate_series(:first, :last - 1) AS n)
        INSERT INTO files ({columns})
        SELECT name, convert_to(name, 'UTF8'), 8000000 + n % 4096, {rest} FROM names""",
}
_COLUMNS = """file, path, size, mtime_ns, source, claim, state, run_id, model_id, recorded_at,
    attempts, strikes, worker_deaths"""
_REST = """1000000000000000000 + n, '/archive', '', 'waiting', :run_id, :model_id,
    '2026-01-05 08:00:00.000000', 0, 0, 0"""


def measure(settings: Database, rows: int, listed: int, finished: int) -> Row:
    """The manifest of so many files, a start over it, and some of them brought to their end."""
    engine = open_database(settings, create=True)
    try:
        upgrade(engine)
        ground = new_ground(engine)
        empty = _bytes(engine)
        made_s = _timed(lambda: _make(ground, rows - listed))
        found: Row = {"rows": rows, "made_by_the_database_s": made_s}
        found["manifest"] = _manifest(ground, rows - listed, rows)
        found["manifest"]["bytes_per_row"] = (_bytes(engine) - empty) / rows
        found["resume"] = _resume(ground)
        before = _bytes(engine)
        found["finished"] = _finished(ground, finished)
        found["finished"]["bytes_per_film"] = (_bytes(engine) - before) / finished
        found["resume_then"] = _resume(ground)
        return found
    finally:
        engine.dispose()


def walked(folder: Path, count: int) -> Row:
    """How fast real files are listed, without the database: files a second, and again."""
    for number in range(count):
        path = folder / f"{number // _FILES_A_FOLDER:06}" / f"{number:08}.dcm"
        if number % _FILES_A_FOLDER == 0:
            path.parent.mkdir()
        path.touch()
    seconds = [_timed(lambda: sum(1 for _ in archive_files(folder))) for _ in range(3)]
    return {"files": count, "files_per_s": count / min(seconds)}


def new_ground(engine: Engine, worker_id: int | None = None) -> Ground:
    """A run in a database: of a backfill alone, or of one of several workers."""
    card = read_card(find_model("default"))
    model_id = register_model(engine, card, "scale", _now())
    run_id = begin_run(
        engine,
        kind="backfill",
        source=SOURCE,
        model_id=model_id,
        device="cpu",
        precision="float32",
        now=_now(),
        worker_id=worker_id,
    )
    return Ground(engine, card, run_id, model_id)


def _make(ground: Ground, count: int) -> None:
    """Rows as `record_listed` makes them, in statements of their own."""
    made = _MADE[ground.engine.dialect.name].format(columns=_COLUMNS, rest=_REST)
    ids = {"run_id": ground.run_id, "model_id": ground.model_id}
    for first in range(0, count, _MADE_AT_ONCE):
        last = min(first + _MADE_AT_ONCE, count)
        with ground.engine.begin() as connection:
            connection.execute(text(made), {"first": first, "last": last, **ids})


def _files(first: int, last: int) -> Iterator[Found]:
    for number in range(first, last):
        name = f"{SOURCE}/{number // _FILES_A_FOLDER:06}/{number:08}.dcm"
        yield Found(SOURCE, name, Path(name), 8_000_000 + number % 4096, 10**18 + number)


def _manifest(ground: Ground, first: int, last: int) -> Row:
    """Rows a second, and what each costs this process."""
    files = _files(first, last)
    known = begin_listing(ground.engine, SOURCE, ground.model_id, _now())
    ids = {"run_id": ground.run_id, "model_id": ground.model_id}
    start, cpu_start = time.perf_counter(), time.process_time()
    while piece := list(islice(files, _PIECE)):
        record_listed(ground.engine, known.id, piece, **ids, now=_now())
    end_listing(ground.engine, known.id, _now())
    seconds = time.perf_counter() - start
    return {
        "rows_per_s": (last - first) / seconds,
        "cpu_us_per_row": 1e6 * (time.process_time() - cpu_start) / (last - first),
    }


def _resume(ground: Ground) -> Row:
    """What the lister and the first batch of a start wait for, in seconds."""
    mine = (ground.engine, SOURCE, ground.model_id)
    return {
        "list_s": _timed(lambda: listing(*mine)),
        "count_waiting_s": _timed(lambda: waiting_count(*mine)),
        "try_again_s": _timed(lambda: try_again(*mine)),
        "first_rows_s": _timed(lambda: waiting_after(*mine, 0, _READ)),
    }


def _finished(ground: Ground, count: int) -> Row:
    """Bring films to their end in batches; times of each step in ms per film."""
    took = dict.fromkeys(("read", "known", "attempt", "finish"), 0.0)
    last, done, cpu_start = 0, 0, time.process_time()
    while done < count:
        start = time.perf_counter()
        args = (ground.engine, SOURCE, ground.model_id, last, _READ)
        items = waiting_after(*args)
        took["read"] += time.perf_counter() - start
        for batch in (items[i : i + BATCH] for i in range(0, len(items), BATCH)):
            _finish(ground, batch, took)
        last, done = items[-1].id, done + len(items)
    cpu_ms = 1000 * (time.process_time() - cpu_start) / done
    return {f"{name}_ms": 1000 * s / done for name, s in took.items()} | {"cpu_ms": cpu_ms}


def _finish(ground: Ground, batch: Sequence[Item], took: dict[str, float]) -> None:
    outcomes = [screened(ground, item) for item in batch]
    ids = {"run_id": ground.run_id, "model_id": ground.model_id}
    steps: dict[str, Callable[[], object]] = {
        "known": lambda: screened_contents(
            ground.engine, [each.content for each in outcomes], ground.model_id
        ),
        "attempt": lambda: begin_attempt(ground.engine, batch, ground.run_id, ground.model_id),
        "finish": lambda: finish(ground.engine, outcomes, **ids, now=_now()),
    }
    for name, step in steps.items():
        took[name] += _timed(step)


def screened(ground: Ground, item: Item) -> Screened:
    """What a worker makes of one of the films that are made up."""
    sha256 = hashlib.sha256(item.id.to_bytes(8, "big")).hexdigest()
    card, score = ground.card, item.id % 1000 / 1000
    record = Record(
        file=item.found.file,
        sha256=sha256,
        decision=card.labels[score >= card.decision.threshold],
        probability=score,
        threshold=card.decision.threshold,
        guard_score=0.1,
        guard_threshold=card.guard.threshold,
        reason=None,
        message="",
        model=card.name,
        weights_sha256=card.weights.sha256,
    )
    tags = Tags(modality="DX", view_position="PA", study_instance_uid="1.2.3")
    pixels = np.zeros((1, 1), np.float32)
    film = PreparedFilm(sha256, pixels, b"", "DICOM", 2048, 2048, tags, (), None)
    evidence = np.zeros((_GRID, _GRID), np.float32)
    return Screened(
        item,
        record,
        film,
        evidence,
        page_name(sha256, _IDENTITY),
        picture_name(sha256, _IDENTITY),
        None,
    )


def _bytes(engine: Engine) -> int:
    """Size of the database, what is in SQLite's log included."""
    if engine.dialect.name == "postgresql":
        asked = "SELECT pg_database_size(current_database())"
    else:
        asked = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    with engine.connect() as connection:
        return int(connection.execute(text(asked)).scalar_one())


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--listed", type=int, default=100_000)
    parser.add_argument("--finished", type=int, default=20_000)
    parser.add_argument("--walked", type=int, default=100_000)
    parser.add_argument("--url", help="an empty database; else SQLite in a scratch folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_SCRATCH")) as scratch:
        settings = Database(url=given.url or f"sqlite:///{scratch}/screen.db")
        found = measure(settings, given.rows, given.listed, given.finished)
        (Path(scratch) / "films").mkdir()
        found["walk"] = walked(Path(scratch) / "films", given.walked)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
