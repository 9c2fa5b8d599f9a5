"""All exports of the shipped models, measured: the tables of docs/EXPORT.md.

Each is made and asked in a process of its own, on one thread, in turns with torch. Of the labelled
films, a fixed sample is asked and others calibrate int8; `--outside` are films that the guard is
to refuse. Results are kept in build/exports and written between the document's markers; those of
another revision are dropped, and its exports made anew.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench.export_tables import report
from bench.speed.facts import ROOT, machine_facts, revision
from bench.speed.films import data_folder
from bench.speed.tables import placed
from models.cards import InputConstants
from models.names import shipped_names
from models.registry import find_model, load_model
from worker.export.formats import FORMATS
from worker.folders import regular_files
from worker.imaging.decode import decode
from worker.imaging.prepare import model_input
from worker.labels import LabelledFilm, class_folders

DOCUMENT = ROOT / "docs" / "EXPORT.md"
WORK = ROOT / "build" / "exports"
KEPT = WORK / "results.json"
ELSEWHERE = {"litert": ROOT / ".venv-litert" / "bin" / "python"}  # formats with their own packages
PRECISIONS = ("float32", "int8")
# What two runs must share:
SAMPLE = ("revision", "films", "of", "calibration", "outside", "outside_of")
EXPORT = ("model", "format", "precision")  # what a row is of

Row = dict[str, Any]


def main() -> None:
    """Measure, keep, print, fill in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=Path, default=data_folder() / "kermany" / "train224")
    parser.add_argument("--outside", type=Path, default=data_folder() / "adult_nih" / "images")
    parser.add_argument("--sample", type=int, default=600, help="labelled films asked")
    parser.add_argument(
        "--calibration", type=int, default=256, help="others, half of them compared"
    )
    parser.add_argument("--outside-sample", type=int, default=200)
    parser.add_argument("--models", nargs="+", default=list(shipped_names()))
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--python", nargs="+", default=[], help="FORMAT=interpreter")
    parser.add_argument("--report", action="store_true", help="only from what was kept")
    chosen = parser.parse_args()
    if not chosen.report:
        measure(chosen)
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    text = report(found)
    print(text)
    document = placed(DOCUMENT.read_text(encoding="utf-8"), "export", text)
    DOCUMENT.write_text(document, encoding="utf-8")


def measure(chosen: argparse.Namespace) -> None:
    """Every chosen model in every chosen format and precision; each is kept once it is measured."""
    now = prepare(chosen)
    interpreters = ELSEWHERE | {
        name: Path(path) for name, _, path in (pair.partition("=") for pair in chosen.python)
    }
    for row in rows(chosen.models, chosen.formats, interpreters):
        before = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {"rows": []}
        KEPT.write_text(json.dumps(joined(before, now | {"rows": [row]}), indent=1))


def joined(before: Row, now: Row) -> Row:
    """What is measured now, beside other exports on these films at this commit."""
    if any(before.get(key) != now[key] for key in SAMPLE):
        return now
    rows = {tuple(row[key] for key in EXPORT): row for row in (*before["rows"], *now["rows"])}
    return now | {"rows": [rows[key] for key in sorted(rows, key=_place)]}


def _place(key: tuple[str, str, str]) -> tuple[int, int, str]:
    model, name, precision = key
    return shipped_names().index(model), list(FORMATS).index(name), precision


def prepare(chosen: argparse.Namespace) -> Row:
    """Draw the films and prepare them; exports of other films or another revision are removed."""
    card = load_model(find_model(chosen.models[0])).card
    asked, calibration = drawn(list(class_folders(chosen.films)), chosen)
    outside = spread(list(regular_files(chosen.outside)), chosen.outside_sample)
    now: Row = {
        "revision": revision().rstrip("+"),  # a run that fills in the document makes a +
        "films": len(asked),
        "of": chosen.films.name,
        "calibration": len(calibration) // 2,
        "outside": len(outside),
        "outside_of": chosen.outside.parent.name,
    }
    sample = WORK / "sample.json"
    if not sample.exists() or json.loads(sample.read_text(encoding="utf-8")) != now:
        shutil.rmtree(WORK, ignore_errors=True)
        for film in calibration:
            (WORK / "calibration" / film.label).mkdir(parents=True, exist_ok=True)
            shutil.copy(film.path, WORK / "calibration" / film.label)
        np.savez(
            WORK / "films.npz",
            films=prepared([film.path for film in asked], card.input),
            outside=prepared(outside, card.input),
            is_ill=np.array([film.label == card.labels[1] for film in asked]),
        )
        sample.write_text(json.dumps(now), encoding="utf-8")
    return {"facts": machine_facts(WORK), **now}


def drawn(
    films: Sequence[LabelledFilm], chosen: argparse.Namespace
) -> tuple[list[LabelledFilm], list[LabelledFilm]]:
    """Films to ask and others to calibrate with, as many of each label, the same each time."""
    asked, calibration = [], []
    for label in sorted({film.label for film in films}):
        own = [film for film in films if film.label == label]
        asked += spread(own, chosen.sample // 2)
        taken = {film.path for film in asked}
        calibration += spread([f for f in own if f.path not in taken], chosen.calibration // 2)
    return asked, calibration


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """So many of them, evenly spaced; all where there are fewer."""
    count = min(count, len(values))
    return [values[place * len(values) // count] for place in range(count)]


def prepared(paths: Sequence[Path], constants: InputConstants) -> np.ndarray[Any, Any]:
    """Films as the model takes them, (N, S, S)."""
    ends = constants.low_percentile, constants.high_percentile
    films = (decode(path.read_bytes()).pixels for path in paths)
    return np.stack([model_input(film, constants.size_px, *ends) for film in films])


def rows(
    models: Sequence[str], formats: Sequence[str], interpreters: dict[str, Path]
) -> Iterator[Row]:
    """One after the other: each has the machine for itself."""
    for model, name, precision in product(models, formats, PRECISIONS):
        python = interpreters.get(name, Path(sys.executable))
        command = [python, "-m", "bench.exported", model, name, precision, WORK]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        last = done.stdout.strip().rpartition("\n")[2]
        found = json.loads(last) if done.returncode == 0 else {"error": f"exit {done.returncode}"}
        print(f"{model} {name} {precision}: {found.get('error', 'measured')}", file=sys.stderr)
        yield {"model": model, "format": name, "precision": precision, **found}


if __name__ == "__main__":
    main()
