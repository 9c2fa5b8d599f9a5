"""Where the time goes: each stage alone, then a whole backfill, on real full-size films.

Prints milliseconds per film and, for the whole, the share of the additive limit: the sum of the
stages' times, divided by the cores. Figures compare within one run only; machines are noisy.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from worker.backfill import backfill
from worker.config import Config, load_config
from worker.imaging.decode import decode
from worker.imaging.prepare import display_picture, model_input
from worker.intake.archive import archive_files
from worker.marks import require_this_site
from worker.pipeline import Pipeline
from worker.report.pages import film_page
from worker.report.site import stored_view
from worker.screening import Screener
from worker.site import hold_site, init_site
from worker.store.queries import screening_ids, stored_screening
from worker.store.work import begin_run, register_model

ROOT = Path(__file__).resolve().parent.parent
ORIGINALS = ROOT.parent / "shared" / "data" / "kermany" / "originals"
SAMPLES = ROOT / "tests" / "films"


def main() -> None:
    """Run the bench and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=200, help="films in the backfill")
    count = parser.parse_args().films
    folder = ORIGINALS if ORIGINALS.is_dir() else SAMPLES
    sources = sorted(path for path in folder.rglob("*.jpeg"))
    print(f"{len(sources)} films from {folder.name}/, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        config, _ = init_site(Path(scratch) / "site")
        with closing(Screener(load_config(config.source))) as screener:
            stages = in_process(screener, config, sources)
            archive = make_archive(Path(scratch) / "archive", sources, count)
            whole, page = whole_backfill(screener, config, archive, count)
    show(stages | {"page": page}, whole)


def per_film(step: Callable[[], object], films: int, repeats: int = 5) -> float:
    """Milliseconds per film, the best of several repeats after one to warm up."""
    step()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best * 1000 / films


def in_process(screener: Screener, config: Config, sources: Sequence[Path]) -> dict[str, float]:
    """Time decoding, preparing, picture and network on one core each, without processes."""
    data = [path.read_bytes() for path in sources]
    films = [decode(each) for each in data]
    constants, report = screener.card.input, config.report
    inputs = np.stack(
        [
            model_input(
                f.pixels, constants.size_px, constants.low_percentile, constants.high_percentile
            )
            for f in films
        ]
    )
    batch = np.resize(inputs, (config.batch.size, *inputs.shape[1:]))
    size, low, high = constants.size_px, constants.low_percentile, constants.high_percentile
    return {
        "decode": per_film(lambda: [decode(each) for each in data], len(data)),
        "prepare": per_film(
            lambda: [model_input(f.pixels, size, low, high) for f in films], len(data)
        ),
        "picture": per_film(
            lambda: [display_picture(f.pixels, report.picture_px, report.quality) for f in films],
            len(data),
        ),
        f"network ({screener.engine.precision}, {screener.engine.device}), all cores": per_film(
            lambda: screener.engine.predict(batch), len(batch)
        ),
    }


def make_archive(folder: Path, sources: Sequence[Path], count: int) -> Path:
    """Real films made distinct by bytes after their end marker."""
    folder.mkdir()
    for number in range(count):
        source = sources[number % len(sources)]
        (folder / f"{number:06}.jpeg").write_bytes(source.read_bytes() + number.to_bytes(8, "big"))
    return folder


def whole_backfill(
    screener: Screener, config: Config, archive: Path, count: int
) -> tuple[float, float]:
    """Milliseconds per film of a whole backfill, and of rendering one page, both with overlays."""
    with hold_site(config) as engine:
        now = datetime.now(UTC)
        model_id = register_model(engine, screener.card, screener.preprocessing, now)
        run_id = begin_run(
            engine,
            kind="backfill",
            source="bench",
            model_id=model_id,
            device=str(screener.engine.device),
            precision=screener.engine.precision,
            now=now,
        )
        start = time.perf_counter()
        backfill(
            engine,
            Pipeline(
                engine,
                screener,
                config,
                run_id=run_id,
                model_id=model_id,
                check=require_this_site(config.site, engine),
            ),
            archive_files(archive),
            run_id=run_id,
            model_id=model_id,
            batch_size=config.batch.size,
            limit=None,
            advance=lambda _files, _outcomes: None,
        )
        whole = (time.perf_counter() - start) * 1000 / count
        screening_id, _page, picture = screening_ids(engine)[0]
        stored = stored_screening(engine, screening_id)
        jpeg = (config.site.reports / picture).read_bytes()
        page = per_film(lambda: film_page(stored_view(stored, jpeg)), 1, repeats=20)
    return whole, page


def show(stages: dict[str, float], whole: float) -> None:
    """Print the table."""
    cores = os.cpu_count() or 1
    limit = sum(ms if "all cores" in name else ms / cores for name, ms in stages.items())
    for name, ms in stages.items():
        print(f"{name:<46} {ms:7.1f} ms/film")
    print(f"{'additive limit on all cores':<46} {limit:7.1f} ms/film")
    print(f"{'backfill, everything included':<46} {whole:7.1f} ms/film {1000 / whole:7.1f} films/s")
    print(f"{'share of the limit reached':<46} {limit / whole:7.2f}")


if __name__ == "__main__":
    main()
