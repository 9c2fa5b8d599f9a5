"""Each stage of a film alone, in this process: the one part of the bench that calls the product.

    python -m bench.speed.stages --mix jpeg --repeats 5

prints milliseconds per film as JSON. Everything runs on one core, but for the networks that say so.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from sqlalchemy import Engine as Database

from bench.speed.facts import cores
from bench.speed.films import Mix, dicom_mix, jpeg_mix
from models.registry import find_model, load_model
from worker.config import Config, load_config
from worker.imaging.decode import decode
from worker.imaging.prepare import display_levels, encode_picture, model_input
from worker.inference.engine import Engine
from worker.inference.openvino_network import is_installed
from worker.intake.found import Found
from worker.records import Film, PreparedFilm, Record
from worker.report.overlay import heat_png
from worker.report.pages import film_page
from worker.report.site import model_facts, page_name, picture_name, write_page, write_pictures
from worker.report.view import FilmView
from worker.site import hold_site, init_site
from worker.store.outcomes import Screened, finish
from worker.store.work import begin_attempt, begin_run, record, register_model

MIXES: dict[str, Callable[[], Mix | None]] = {"jpeg": jpeg_mix, "dicom": dicom_mix}
_AT_ONCE = (1, 2, 4, 8, 16)  # films in one pass; the limit takes the quickest
_JPEG = b"\xff\xd8"
_ANY_IDENTITY = "0" * 64

Step = Callable[[], object]
Timed = dict[str, float]


def main() -> None:
    """Print the stages' times as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mix", choices=MIXES, default="jpeg")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    mix = MIXES[given.mix]()
    if mix is None:
        parser.error("no DICOM films here: install the bench extra")
    print(json.dumps(measure(mix, given.repeats)))


def measure(mix: Mix, repeats: int) -> dict[str, Any]:
    """The stages of a mix: medians of `repeats` after one to warm up, in ms per film.

    `stages` add up to all that one film costs one core; `network` holds what was tried for them,
    and what the network takes with all threads or on the GPU, in ms per film too. `bare` is
    OpenCV's own decoder on the same JPEG films: the rest of `decode` is checks and conversion.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    data = [path.read_bytes() for path in mix.sources]
    films = [decode(each, picture_px=Config().report.picture_px) for each in data]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_SCRATCH")) as scratch:
        config, _ = init_site(Path(scratch) / "site")
        engine = Engine(load_model(find_model("default")), "cpu", "float32")
        prepared = [_prepared(engine, config, film) for film in films]
        stages = _imaging(mix, data, films, engine, config, repeats)
        network = _networks(engine, [film.model_input for film in prepared], repeats)
        stages["network"] = min(ms for name, ms in network.items() if "one thread" in name)
        stages |= _reports(engine, load_config(config.source), prepared, repeats)
    return {"stages": stages, "network": network, "bare": _bare(data, repeats)}


def per_film(step: Step, films: int, repeats: int) -> float:
    """Milliseconds per film: the median of several repeats after one to warm up."""
    step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return median(seconds) * 1000 / films


def _imaging(
    mix: Mix, data: Sequence[bytes], films: Sequence[Film], engine: Engine, config: Config, n: int
) -> Timed:
    """From the file to the model's input and the report's picture."""
    given, report = engine.card.input, config.report
    size, low, high = given.size_px, given.low_percentile, given.high_percentile
    levels = [display_levels(film.pixels, report.picture_px) for film in films]
    steps: dict[str, Step] = {
        "read": lambda: [path.read_bytes() for path in mix.sources],
        "hash": lambda: [hashlib.sha256(each).digest() for each in data],
        "decode": lambda: [decode(each, picture_px=report.picture_px) for each in data],
        "model input": lambda: [
            model_input(film.pixels, size, low, high, (film.rows, film.columns)) for film in films
        ],
        "shrink": lambda: [display_levels(film.pixels, report.picture_px) for film in films],
        "picture JPEG": lambda: [encode_picture(each, report.quality) for each in levels],
    }
    return {name: per_film(step, len(data), n) for name, step in steps.items()}


def _bare(data: Sequence[bytes], repeats: int) -> Timed:
    encoded = [np.frombuffer(each, np.uint8) for each in data if each.startswith(_JPEG)]
    if not encoded:
        return {}
    flags = {
        "OpenCV alone, full size": cv2.IMREAD_GRAYSCALE,
        "OpenCV alone, half size": cv2.IMREAD_REDUCED_GRAYSCALE_2,
    }
    return {
        name: per_film(
            lambda flag=flag: [cv2.imdecode(each, flag) for each in encoded], len(encoded), repeats
        )
        for name, flag in flags.items()
    }


def _networks(engine: Engine, inputs: Sequence[np.ndarray], repeats: int) -> Timed:
    """The network with its heat map and guard, films at once by threads; on a GPU where one is."""
    times: Timed = {}
    for threads in dict.fromkeys((1, cores())):
        torch.set_num_threads(threads)
        for count in _AT_ONCE:
            batch = np.stack([inputs[i % len(inputs)] for i in range(count)])
            name = f"{'one thread' if threads == 1 else f'{threads} threads'}, {count} at once"
            times[name] = per_film(lambda batch=batch: engine.predict(batch), count, repeats)
    if torch.cuda.is_available():
        model = load_model(find_model("default"))
        batch = np.resize(np.stack(inputs), (64, *inputs[0].shape))
        on_gpu = Engine(model, "cuda")
        times["CUDA, 64 at once"] = per_film(lambda: on_gpu.predict(batch), len(batch), repeats)
    torch.set_num_threads(1)
    if is_installed():
        other = Engine(load_model(find_model("default")), runtime="openvino")
        batch = np.stack(inputs)
        times["OpenVINO, one core"] = per_film(lambda: other.predict(batch), len(batch), repeats)
    return times


def _prepared(engine: Engine, config: Config, film: Film) -> PreparedFilm:
    given, report = engine.card.input, config.report
    size, low, high = given.size_px, given.low_percentile, given.high_percentile
    whole = film.rows, film.columns
    return PreparedFilm(
        sha256="",
        model_input=model_input(film.pixels, size, low, high, whole),
        picture=encode_picture(display_levels(film.pixels, report.picture_px), report.quality),
        format=film.format,
        rows=film.rows,
        columns=film.columns,
        tags=film.tags,
        notes=film.notes,
        refusal=film.refusal,
    )


def _reports(engine: Engine, config: Config, films: Sequence[PreparedFilm], repeats: int) -> Timed:
    """Heat map, page, files and rows of films that were predicted."""
    count, scale = len(films), engine.card.heat_map.evidence_scale
    predictions = engine.predict(np.stack([film.model_input for film in films]))
    views = [
        _view(engine, film, p.evidence, n)
        for n, (film, p) in enumerate(zip(films, predictions, strict=True))
    ]
    heat = per_film(lambda: [heat_png(p.evidence, scale) for p in predictions], count, repeats)
    page = per_film(lambda: [film_page(view) for view in views], count, repeats)
    pictures = {picture_name(str(v.record.sha256), _ANY_IDENTITY): v.picture for v in views}

    def write_report_files() -> None:
        write_pictures(config.site, pictures)
        for view in views:
            write_page(config.site, view)

    files = per_film(write_report_files, count, repeats)
    with hold_site(config) as database:
        batches = _batches(engine, database, films, views)
        rows = per_film(lambda: next(batches), count, repeats)
    return {
        "heat PNG": heat,
        "page": max(0.0, page - heat),  # it draws the heat map
        "report files": max(0.0, files - page),  # writing renders the page
        "rows": rows,
    }


def _view(engine: Engine, film: PreparedFilm, evidence: np.ndarray, number: int) -> FilmView:
    card, sha256 = engine.card, hashlib.sha256(number.to_bytes(8, "big")).hexdigest()
    return FilmView(
        record=Record(
            file=f"/archive/2019/{number:08}.jpeg",
            sha256=sha256,
            decision=card.labels[1],
            probability=0.9,
            threshold=card.decision.threshold,
            guard_score=0.1,
            guard_threshold=card.guard.threshold,
            reason=None,
            message="",
            model=card.name,
            weights_sha256=card.weights.sha256,
        ),
        model=model_facts(card),
        picture=film.picture,
        evidence=evidence,
        page=page_name(sha256, _ANY_IDENTITY),
        format=film.format,
        rows=film.rows,
        columns=film.columns,
        tags=film.tags,
        notes=film.notes,
        run=1,
        screened_at=datetime.now(UTC),
    )


def _batches(
    engine: Engine, database: Database, films: Sequence[PreparedFilm], views: Sequence[FilmView]
) -> Iterator[None]:
    """Each step records, counts and finishes one batch of new contents, as the pipeline does."""
    now = datetime.now(UTC)
    model_id = register_model(database, engine.card, "bench", now)
    run_id = begin_run(
        database,
        kind="backfill",
        source="bench",
        model_id=model_id,
        device="cpu",
        precision="float32",
        now=now,
    )
    number = 0
    while True:
        found = [
            Found("bench", f"{number + i}", Path(f"/archive/{number + i}"), 1, 1)
            for i in range(len(films))
        ]
        items = record(database, found, run_id, model_id, now)
        begin_attempt(database, items, run_id, model_id)
        outcomes = []
        for item, film, view in zip(items, films, views, strict=True):
            number += 1
            sha256 = hashlib.sha256(number.to_bytes(8, "big")).hexdigest()
            answer = replace(view.record, sha256=sha256)
            page, picture = page_name(sha256, _ANY_IDENTITY), picture_name(sha256, _ANY_IDENTITY)
            outcomes.append(
                Screened(
                    item, answer, film, view.evidence, page=page, picture=picture, final_name=None
                )
            )
        finish(database, outcomes, run_id=run_id, model_id=model_id, now=now)
        yield


if __name__ == "__main__":
    main()
