"""One export, made and measured in a process of its own: each format may have its environment.

`python -m bench.export` runs it: `python -m bench.exported MODEL FORMAT PRECISION FOLDER`, where
FOLDER has `films.npz` and `calibration/`; the figures come as JSON on the last line of stdout.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from models.cards import EXPORT_CARD_SUFFIX, Card
from models.registry import LoadedModel, find_model, load_model
from worker.errors import ExportFailed, ScreenError
from worker.export import parity
from worker.export.formats import FORMATS, Runtime
from worker.export.run import ExportRequest, export
from worker.inference.decide import decide
from worker.inference.engine import Engine
from worker.inference.portable import Answers
from worker.records import Prediction, Tags

Films = NDArray[np.float32]
ROUNDS, TIMED = 7, 8  # films one by one, in turns with torch; the best round counts
TORCH = "torch.npz"  # what torch says of the films, for all formats of a model


def main() -> None:
    """Measure what the arguments name, print it as JSON."""
    model, name, precision, folder = sys.argv[1:]
    try:
        print(json.dumps(measured(model, name, precision, Path(folder))))
    except ScreenError as error:
        print(json.dumps({"error": str(error)}))


def measured(model_name: str, name: str, precision: str, folder: Path) -> dict[str, Any]:
    """Export, open, compare with torch on all films: size, speed, differences, AUC.

    Raises ScreenError where the format cannot take the model or a package is missing.
    """
    torch.set_num_threads(1)
    model = load_model(find_model(model_name))
    card, files = exported(model, name, precision, folder)
    runtime = FORMATS[name].code.open_runtime(tuple(f.read_bytes() for f in files), threads=1)
    engine = Engine(model, "cpu", "float32")
    with np.load(folder / "films.npz") as saved:
        films, outside, is_ill = (saved[part] for part in ("films", "outside", "is_ill"))
    expected, expected_outside = torch_answers(engine, folder / model_name, films, outside)
    found, found_outside = runtime(films), runtime(outside)
    if card.export is None:
        raise ExportFailed(f"{files[-1]} is no card of an export")
    return {
        "source_bytes": (find_model(model_name) / model.card.weights.file).stat().st_size,
        "files_bytes": sum(file.stat().st_size for file in files),
        "made_with": card.export.made_with,
        **ratio(engine, runtime, films[:TIMED]),
        "parity": parity.compare(found, expected, model.card, "").model_dump(),
        "decisions_changed": changed(found, expected, model.card),
        "auc": float(roc_auc_score(is_ill, found.probability)),
        "torch_auc": float(roc_auc_score(is_ill, expected.probability)),
        "passed_by_guard": passed(found, model.card),
        "torch_passed_by_guard": passed(expected, model.card),
        "outside_changed": changed(found_outside, expected_outside, model.card),
        "outside_passed": passed(found_outside, model.card),
        "torch_outside_passed": passed(expected_outside, model.card),
    }


def exported(
    model: LoadedModel, name: str, precision: str, folder: Path
) -> tuple[Card, tuple[Path, ...]]:
    """The export's card and files; one that lies there is not made again."""
    out, wanted = folder / model.card.name / name, FORMATS[name]
    stem = f"{model.card.name}-int8" if precision == "int8" else model.card.name
    files = [out / f"{stem}{suffix}" for suffix in wanted.suffixes]
    card = out / f"{files[0].name}{EXPORT_CARD_SUFFIX}"
    if not card.exists():
        films = folder / "calibration"
        export(model, ExportRequest(wanted, out, precision == "int8", films))
    return Card.model_validate_json(card.read_text(encoding="utf-8")), tuple(files)


def torch_answers(
    engine: Engine, folder: Path, films: Films, outside: Films
) -> tuple[Answers, Answers]:
    """What the worker's own engine says of both samples, asked once."""
    kept = folder / TORCH
    if not kept.exists():
        answers = (*parity.answers_of(engine, films), *parity.answers_of(engine, outside))
        np.savez(kept, *answers)
    with np.load(kept) as saved:
        parts = [saved[name] for name in saved.files]
    return Answers(*parts[: len(parts) // 2]), Answers(*parts[len(parts) // 2 :])


def ratio(engine: Engine, runtime: Runtime, films: Films) -> dict[str, float]:
    """Films a second of CPU time, one at a time on one thread; the ratio is of the best rounds."""
    asked: tuple[tuple[Callable[[Films], Any], list[float]], ...]
    asked = ((engine.predict, []), (runtime, []))
    for _ in range(ROUNDS):
        for ask, rounds in asked:
            rounds.append(_seconds(ask, films))
    torch_s, own_s = (min(rounds[1:]) for _, rounds in asked)  # the first of each warms up
    return {
        "torch_films_per_s": len(films) / torch_s,
        "films_per_s": len(films) / own_s,
        "times_torch": torch_s / own_s,
    }


def _seconds(ask: Callable[[Films], Any], films: Films) -> float:
    start = time.process_time()  # of all threads: what else runs on the machine does not count
    for film in films:
        ask(film[None])
    return time.process_time() - start


def changed(found: Answers, expected: Answers, card: Card) -> int:
    """Films with another decision, the guard's and the abstention band's included."""
    return sum(
        a != b for a, b in zip(decisions(found, card), decisions(expected, card), strict=True)
    )


def passed(answers: Answers, card: Card) -> int:
    """Films that the guard lets pass."""
    return int(np.sum(answers.guard_score <= card.guard.threshold))


def decisions(answers: Answers, card: Card) -> list[str]:
    """What each film is called, or why it is refused."""
    rows = zip(*answers, strict=True)
    verdicts = (
        decide(Prediction(float(p), heat, float(g), float(n)), card, None, Tags(), "refuse")
        for p, heat, g, n in rows
    )
    return [verdict.reason or verdict.decision for verdict in verdicts]


if __name__ == "__main__":
    main()
