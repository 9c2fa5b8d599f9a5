"""Questions to a large database: the documented ones, `screen status`, the worklist.

    python -m bench.speed.database SITE

writes a site's worklist and prints how many seconds that took.
"""

import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Engine, event

from bench.speed.facts import ROOT
from bench.speed.processes import run
from bench.speed.site import new_site, screen
from bench.synthetic import fill
from worker.config import load_config
from worker.report.site import write_worklist
from worker.site import hold_site, read_site
from worker.store.filters import Filter
from worker.store.queries import results

_DOCUMENT = ROOT / "docs" / "DATABASE.md"
_COMMANDS = 3  # repeats of a whole command, at the most
_SHOWN = 50  # rows of the table that `screen query` prints
Row = dict[str, Any]


def measure(scratch: Path, rows: int, repeats: int, seed: int = 0) -> Row:
    """Median times over a synthetic database of so many files."""
    site = new_site(scratch / "site")
    config = load_config(site / "config.toml")
    start = time.perf_counter()
    with hold_site(config) as engine:
        fill(engine, rows, seed)
    filled = time.perf_counter() - start
    file = site / "screen.db"
    newest = datetime.fromisoformat(_one(file, "SELECT max(finished_at) FROM results"))
    with read_site(config) as engine:
        asked = {
            name: _ask(engine, site, wanted, repeats)
            for name, wanted in questions(newest.replace(tzinfo=UTC)).items()
        }
    worklist = run([sys.executable, "-m", "bench.speed.database", site], sample_every_s=0.2)
    found = {
        "rows": rows,
        "filled_s": filled,
        "database_bytes": file.stat().st_size,
        "questions": asked,
        "documented_sql": [_sql(file, asked, repeats) for asked in documented(newest)],
        "status_s": _best(lambda: screen(site, "status").seconds, repeats),
        "worklist": {
            "seconds": float(worklist.lines[-1][1]),
            "peak_pss": max((sample.pss for sample in worklist.samples), default=None),
            "pages": len(list((site / "reports").glob("*.html"))),
            "index_bytes": (site / "reports" / "index.html").stat().st_size,
        },
    }
    shutil.rmtree(site)
    return found


_MOMENTS = ("since", "until")


def questions(newest: datetime) -> dict[str, Row]:
    """What `screen query --help` offers, one by one and together: name → fields of the filter.

    The table shows the newest 50 that fit. Rare answers and none at all are the hard ones: without
    an index all rows would be looked at.
    """
    day = timedelta(days=1)
    return {
        "newest": {},
        "decision": {"decision": "PNEUMONIA"},
        "decision since": {"decision": "PNEUMONIA", "since": newest - day},
        "decision and probability": {"decision": "PNEUMONIA", "min_probability": 0.9},
        "failed": {"status": "failed"},
        "duplicates": {"status": "duplicate"},
        "reason": {"reason": "polarity-unsure"},
        "reason that never was": {"reason": "no-such-reason"},
        "last day": {"since": newest - day},
        "before the first day": {"until": newest - 1000 * day},
        "a day long ago": {"since": newest - 100 * day, "until": newest - 99 * day},
        "high probability": {"min_probability": 0.99},
        "low probability": {"max_probability": 0.001},
        "one archive": {"source": "/archive/2016"},
        "an archive that never was": {"source": "/archive/1900"},
        "one run": {"run": 1},
        "failed in one run": {"run": 1, "status": "failed"},
        "disagreed with": {"verdict": "disagree"},
        "reviewed": {"reviewed": True},
        "not reviewed": {"decision": "PNEUMONIA", "reviewed": False},
    }


def words(wanted: Row) -> list[str]:
    """The same question as options of `screen query`."""
    given: list[str] = []
    for name, value in wanted.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            given += [f"--{option}" if value else f"--not-{option}"]
        else:
            given += [f"--{option}", value.isoformat() if name in _MOMENTS else str(value)]
    return given


def documented(newest: datetime) -> list[str]:
    """The statements of docs/DATABASE.md; `now` in them is the database's newest moment."""
    blocks = re.findall(r"```sql\n(.*?)```", _DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    text = re.sub(r"--.*", "", "".join(blocks)).replace("'now'", f"'{newest}'")
    return [" ".join(statement.split()) for statement in text.split(";") if statement.strip()]


def _ask(engine: Engine, site: Path, wanted: Row, repeats: int) -> Row:
    question = Filter(**wanted, limit=_SHOWN)
    with _statements(engine) as said:
        found = len(list(results(engine, question)))
    with engine.connect() as connection:
        plans = [
            connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            for statement, parameters in said
        ]
    seconds = [_timed(lambda: list(results(engine, question))) for _ in range(repeats)]
    return {
        "asked": " ".join(words(wanted)),
        "rows": found,
        "database_s": median(seconds),
        "command_s": _best(lambda: screen(site, "query", *words(wanted)).seconds, repeats),
        "plan": [step[3] for plan in plans for step in plan],
    }


@contextmanager
def _statements(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Statements with their parameters, as they go to the database."""
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        said.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _sql(file: Path, statement: str, repeats: int) -> Row:
    """One statement as a reader asks it; time to the first 50 rows, and to the last."""
    with closing(_read_only(file)) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        rows = len(database.execute(statement).fetchall())
        first = [_timed(lambda: database.execute(statement).fetchmany(50)) for _ in range(repeats)]
        every = [_timed(lambda: database.execute(statement).fetchall()) for _ in range(repeats)]
    return {
        "asked": statement,
        "rows": rows,
        "first_rows_s": median(first),
        "all_rows_s": median(every),
        "plan": [step[3] for step in plan],
    }


def _one(file: Path, statement: str) -> Any:
    with closing(_read_only(file)) as database:
        return database.execute(statement).fetchone()[0]


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True)


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _best(seconds: Callable[[], float], repeats: int) -> float:
    return min(seconds() for _ in range(min(repeats, _COMMANDS)))


def main() -> None:
    """Write the worklist of the site that is named."""
    config = load_config(Path(sys.argv[1]) / "config.toml")
    with hold_site(config) as engine:
        print(_timed(lambda: write_worklist(config.site, engine, datetime.now(UTC))))


if __name__ == "__main__":
    main()
