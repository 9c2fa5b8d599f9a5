"""Fill a database with results as a site would have them: a million files in about a minute.

    python -m bench.synthetic FILE.db --files 1000000

Rows go through the real schema; scores, reasons and sources are spread as at a busy site. Pages and
pictures are named and not there.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, func, insert, select

from models.cards import Card, read_card
from models.registry import find_model
from worker.config import Database
from worker.errors import FilmError
from worker.intake.found import INBOX
from worker.records import Decision, Reason
from worker.report.site import page_name, picture_name
from worker.store.database import open_database, upgrade
from worker.store.lists import mark_due
from worker.store.tables import Base, Failure, File, Film, Run, Screening
from worker.store.work import register_model

_RUN_FILES = 20_000
_CHUNK = 10_000  # files in one transaction
_ARCHIVES = tuple(f"/archive/{year}" for year in range(2016, 2022))
_DECISIONS = tuple(Decision)  # PNEUMONIA, NORMAL, INDETERMINATE, REFUSED
_SHARES = (0.08, 0.82, 0.04, 0.06)
_STATES = ("screened", "duplicate", "failed")
_STATE_SHARES = (0.955, 0.03, 0.015)
_RESOLUTIONS = (None, "retried", "discarded", "retrying")
_RESOLUTION_SHARES = (0.7, 0.2, 0.09, 0.01)
_UNFINISHED = 0.0005  # of the files, the last ones: in archives, so that no worker looks for them
_START = datetime(2026, 1, 5, 8, tzinfo=UTC)
_GRID = 7
_SLUGS = sorted(kind.slug for kind in FilmError.__subclasses__())

Rows = list[dict[str, Any]]


def fill(engine: Engine, count: int, seed: int = 0) -> None:
    """Add `count` files and all that belongs to them, after those that are there.

    Half of the runs work the inbox, half an archive; each has 20,000 files. Equal seeds and equal
    numbers of files before give equal rows.
    """
    maker = _Maker(engine, read_card(find_model("default")), count, seed)
    for start in range(maker.first, maker.last + 1, _CHUNK):
        numbers = range(start, min(start + _CHUNK, maker.last + 1))
        with engine.begin() as connection:
            for table, rows in maker.rows(numbers):
                if rows:
                    connection.execute(insert(table), rows)
            mark_due(connection, numbers)


class _Maker:
    """Makes rows; its numbers go on from those in the database."""

    def __init__(self, engine: Engine, card: Card, count: int, seed: int) -> None:
        self._card, self._rng = card, np.random.default_rng(seed)
        self._model_id = register_model(engine, card, "synthetic", _START)
        with engine.connect() as connection:
            highest = [
                connection.scalar(select(func.max(table.id))) or 0
                for table in (File, Film, Screening, Run)
            ]
        self.first, self.last = highest[0] + 1, highest[0] + count
        self._films, self._screenings, self._runs = highest[1:]
        self._sha256 = ""  # of the last film: the one that duplicates are copies of
        self._said: dict[str, Any] = {}
        self._finished = count - int(_UNFINISHED * count)

    def rows(self, numbers: Sequence[int]) -> Iterator[tuple[type[Base], Rows]]:
        """Rows of consecutive files, table by table, in the order in which they point."""
        made: dict[type[Base], Rows] = {t: [] for t in (Run, Film, Screening, File, Failure)}
        count = len(numbers)
        answers, states = list(self._answers(count)), self._pick(_STATES, _STATE_SHARES, count)
        reasons = self._pick(_SLUGS, [1 / len(_SLUGS)] * len(_SLUGS), count)
        resolutions = self._pick(_RESOLUTIONS, _RESOLUTION_SHARES, count)
        for index, number in enumerate(numbers):
            run = 1 + (number - 1) // _RUN_FILES
            if run > self._runs:
                self._runs = run
                made[Run].append(self._run(run))
            file = self._file(number, run)
            made[File].append(file)
            if number - self.first >= self._finished:
                file |= _UNENDED[number % 8 == 0]
                continue
            state = states[index] if self._sha256 else "screened"
            moment = file["finished_at"]
            if state == "failed":
                reason, how = reasons[index], resolutions[index]
                made[Failure].append(_failure(number, run, reason, moment, how))
                file |= {"decision": str(Decision.REFUSED), "reason": reason}
            else:
                if state == "screened":
                    self._new_content(answers[index])
                    made[Film].append(_film(self._films, self._sha256, moment))
                    made[Screening].append(self._screening(run, moment) | answers[index])
                file |= self._said | {"screening_id": self._screenings, "sha256": self._sha256}
            file["state"] = state
        yield from made.items()

    def _new_content(self, answer: dict[str, Any]) -> None:
        self._said = {name: answer[name] for name in ("decision", "probability", "reason")}
        self._films, self._screenings = self._films + 1, self._screenings + 1
        self._sha256 = self._rng.bytes(32).hex()

    def _pick(self, of: Sequence[Any], shares: Sequence[float], count: int) -> list[Any]:
        return [of[i] for i in self._rng.choice(len(of), count, p=shares)]

    def _answers(self, count: int) -> Iterator[dict[str, Any]]:
        """Decision, score, guard and heat map of each file, were it screened."""
        rng = self._rng
        low, high = self._card.decision.indeterminate
        spread: dict[str, NDArray[np.float64]] = {
            Decision.PNEUMONIA: high + (1 - high) * rng.beta(2, 1.2, count),
            Decision.NORMAL: low * rng.beta(0.8, 6, count),
            Decision.INDETERMINATE: rng.uniform(low, high, count),
            Decision.REFUSED: rng.uniform(0, 1, count),
        }
        refusals = self._pick(tuple(Reason), [1 / len(Reason)] * len(Reason), count)
        guard = rng.beta(1.2, 8, count)
        evidence = rng.normal(-1, 1.5, (count, _GRID, _GRID)).astype("<f4")
        for i, decision in enumerate(self._pick(_DECISIONS, _SHARES, count)):
            refused = decision == Decision.REFUSED
            yield {
                "decision": str(decision),
                "probability": float(spread[decision][i]),
                "guard_score": float(guard[i]),
                "reason": str(refusals[i]) if refused else None,
                "message": "This film is not one the model answers for." if refused else "",
                "evidence": evidence[i].tobytes(),
            }

    def _run(self, run: int) -> dict[str, Any]:
        started = _moment((run - 1) * _RUN_FILES)
        return {
            "id": run,
            "kind": "watch" if run % 2 else "backfill",
            "source": _source(run),
            "model_id": self._model_id,
            "device": "cpu",
            "precision": "float32",
            "worker_version": "synthetic",
            "started_at": started,
            "finished_at": _moment(run * _RUN_FILES),
        }

    def _file(self, number: int, run: int) -> dict[str, Any]:
        source, moment = _source(run), _moment(number)
        name = f"{number // 1000:05}/film-{number:08}.dcm"
        inbox = source == INBOX
        return {
            "id": number,
            "run_id": run,
            "model_id": self._model_id,
            "source": source,
            "file": name if inbox else f"{source}/{name}",
            "path": f"{'/site/work' if inbox else source}/{name}".encode(),
            "size": 300_000 + number % 4096,
            "mtime_ns": 1_700_000_000_000_000_000 + number,
            "claim": f"{number:032x}" if inbox else "",
            "sha256": None,
            "decision": None,
            "probability": None,
            "reason": None,
            "attempts": 1,
            "screening_id": None,
            "final_name": f"film-{number:08}.dcm" if inbox else None,
            "recorded_at": moment,
            "finished_at": moment + timedelta(seconds=1),
        }

    def _screening(self, run: int, moment: datetime) -> dict[str, Any]:
        identity = self._card.weights.sha256
        return {
            "id": self._screenings,
            "film_id": self._films,
            "model_id": self._model_id,
            "run_id": run,
            "threshold": self._card.decision.threshold,
            "guard_threshold": self._card.guard.threshold,
            "evidence_rows": _GRID,
            "evidence_columns": _GRID,
            "picture": picture_name(self._sha256, identity),
            "page": page_name(self._sha256, identity),
            "screened_at": moment,
        }


_ARCHIVED = {"source": _ARCHIVES[0], "claim": "", "finished_at": None, "final_name": None}
_UNENDED = (
    _ARCHIVED | {"state": "waiting", "attempts": 0},
    _ARCHIVED | {"state": "attempted", "attempts": 1},
)


def _source(run: int) -> str:
    return INBOX if run % 2 else _ARCHIVES[run // 2 % len(_ARCHIVES)]


def _moment(number: int) -> datetime:
    """One film every ten seconds."""
    return _START + timedelta(seconds=10 * number)


def _film(number: int, sha256: str, moment: datetime) -> dict[str, Any]:
    return {
        "id": number,
        "sha256": sha256,
        "format": "DICOM",
        "rows": 2048,
        "columns": 1760,
        "modality": "DX",
        "view_position": "PA" if number % 3 else "AP",
        "patient_age_years": float(number % 18),
        "notes": [],
        "first_seen_at": moment,
    }


def _failure(
    number: int, run: int, reason: str, moment: datetime, how: str | None
) -> dict[str, Any]:
    return {
        "file_id": number,
        "run_id": run,
        "reason": reason,
        "message": "The file could not be read.",
        "failed_at": moment,
        "resolution": how,
        "resolved_at": moment + timedelta(days=1) if how else None,
    }


def main() -> None:
    """Make or lengthen a database, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    engine = open_database(Database(url=f"sqlite:///{given.database.resolve()}"), create=True)
    upgrade(engine)
    start = time.perf_counter()
    fill(engine, given.files, given.seed)
    print(f"{given.files:,} files in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
