"""Heat maps checked, not admired: the tables of docs/HEATMAPS.md, measured again.

On the same films, ours beside pytorch-grad-cam, Captum and two controls: are they equal, does the
network use what they show, do they change with the weights, does the heat lie in the thorax?
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import attribution as maps
from bench.attribution import Heat, Maps
from bench.faithfulness import blurred, deletion_insertion, interval, ranks, road
from bench.heatmap_tables import report
from bench.randomisation import SHARES, cascade, spearman
from bench.thorax import Thorax, find_thorax
from models.registry import LoadedModel, find_model, load_model
from worker.imaging.decode import decode
from worker.imaging.prepare import model_input
from worker.inference.engine import Engine
from worker.labels import LabelledFilm, class_folders

ROOT = Path(__file__).resolve().parent.parent
KERMANY = ROOT.parent / "shared" / "data" / "kermany"
SAMPLES = ROOT / "tests" / "films"
SEEDS = 3  # of the randomised weights
RANDOMISED, ROAD = 24, 40  # films for these two: they cost most

Row = dict[str, Any]


@dataclass(frozen=True)
class Films:
    """Prepared films (N, S, S) with their patients (N,), and the log-odds they get."""

    pixels: Maps
    groups: NDArray[np.str_]
    log_odds: NDArray[np.float64]

    def __getitem__(self, chosen: Any) -> "Films":
        return Films(self.pixels[chosen], self.groups[chosen], self.log_odds[chosen])

    def __len__(self) -> int:
        return len(self.groups)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default", help="name or folder")
    parser.add_argument("--films", type=int, default=200, help="drawn, beside tests/films")
    parser.add_argument("--called", type=int, default=60, help="taken apart, of those called sick")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    start = time.perf_counter()
    model = load_model(find_model(arguments.model))
    found = measure(model, arguments.films, arguments.called, arguments.seed)
    print(f"{report(found)}\n{time.perf_counter() - start:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def measure(model: LoadedModel, count: int, called_count: int, seed: int) -> Row:
    """All figures, as plain numbers."""
    rng = np.random.default_rng(seed)
    engine = Engine(model, "cpu", "float32")
    films = load(engine, sample(count, rng))
    threshold = engine.card.decision.threshold
    sick = films.log_odds >= np.log(threshold / (1 - threshold))
    called, healthy = films[np.flatnonzero(sick)[:called_count]], films[~sick]
    replaced = healthy.pixels[rng.integers(len(healthy), size=len(called))]
    grids = maps.our_grids(engine, films.pixels)
    return {
        "model": engine.card.name,
        "weights_sha256": engine.card.weights.sha256,
        "films": len(films),
        "called": len(called),
        "patients": len(set(called.groups)),
        "healthy_blurred": float(np.median(maps.log_odds(engine, blurred(healthy.pixels)))),
        "equality": equality(model, films, grids),
        **methods(model, engine, called, replaced, rng),
        "randomisation": randomisation(model, called[:RANDOMISED], seed),
    }


def sample(count: int, rng: np.random.Generator) -> list[LabelledFilm]:
    """tests/films, then as many of either class from the larger set beside the checkout, mixed."""
    folders = [KERMANY / name for name in ("originals", "train_native")]
    known = {f.path.name: f for folder in folders if folder.is_dir() for f in class_folders(folder)}
    drawn: list[LabelledFilm] = []
    for label in ("NORMAL", "PNEUMONIA"):
        of_class = [film for film in known.values() if film.label == label]
        size = min(count // 2, len(of_class))
        drawn += [of_class[i] for i in rng.choice(len(of_class), size, replace=False)]
    rng.shuffle(drawn)  # type: ignore[arg-type]
    return [*class_folders(SAMPLES), *drawn]


def load(engine: Engine, sources: Sequence[LabelledFilm]) -> Films:
    """Decode, prepare and score films as they are served."""
    constants = engine.card.input
    low, high = constants.low_percentile, constants.high_percentile
    decoded = (decode(source.path.read_bytes()) for source in sources)
    pixels = np.stack(
        [
            model_input(film.pixels, constants.size_px, low, high, (film.rows, film.columns))
            for film in decoded
        ]
    )
    groups = np.array([source.group for source in sources])
    return Films(pixels, groups, maps.log_odds(engine, pixels))


def equality(model: LoadedModel, films: Films, grids: Maps) -> Row:
    """The largest differences from ours in any cell of any film, in log-odds."""
    margin = maps.Margin(maps.members(model))
    slope = model.card.calibration.slope
    others = {
        "pytorch-grad-cam": maps.grad_cam_grids(margin, films.pixels),
        "Captum": maps.captum_grids(margin, films.pixels),
    }
    return {
        "largest": float(np.abs(grids).max()),
        **{name: float(np.abs(slope * grid - grids).max()) for name, grid in others.items()},
    }


def methods(
    model: LoadedModel, engine: Engine, called: Films, replaced: Maps, rng: np.random.Generator
) -> Row:
    """Faithfulness and place of every method's maps of the films called sick."""
    chests = [find_thorax(film) for film in called.pixels]
    found = [chest is not None for chest in chests]
    every = all_heat(model, engine, called, replaced, rng)
    scores = {name: faithfulness(engine, called, replaced, h, rng) for name, h in every.items()}
    places = {name: shares(heat, chests) for name, heat in every.items()}
    control, mean_map = scores["random map"], scores["mean map of other films"]
    rows = {}
    for name in every:
        row: Row = {"place": {key: mean(value) for key, value in places[name].items()}}
        for key, value in scores[name].items():
            row[key] = mean(value)
            for against, other in (("random", control[key]), ("mean_map", mean_map[key])):
                row[f"{key}_minus_{against}"] = difference(value - other, called.groups, rng)
        rows[name] = row
    ours, others = places["ours"]["thorax"], places["mean map of other films"]["thorax"]
    area = np.array([np.nan if chest is None else chest.thorax.mean() for chest in chests])
    return {
        "methods": rows,
        "thorax_found": int(sum(found)),
        "area": {
            "thorax": mean(area),
            "lungs": float(np.mean([chest.lungs.mean() for chest in chests if chest])),
        },
        "thorax_minus_area": difference(ours - area, called.groups, rng),
        "thorax_minus_mean_map": difference(ours - others, called.groups, rng),
    }


def all_heat(
    model: LoadedModel, engine: Engine, films: Films, replaced: Maps, rng: np.random.Generator
) -> dict[str, Heat]:
    """Maps of the same films by every method, ours first, controls last."""
    margin, side = maps.Margin(maps.members(model)), films.pixels.shape[1]
    grids = maps.our_grids(engine, films.pixels)
    occlusion = maps.occlusion_grids(engine, films.pixels, replaced, cells=grids.shape[1])
    return {
        "ours": maps.from_grid(grids, side),
        "pytorch-grad-cam GradCAM": maps.library_cam(margin, films.pixels, "GradCAM"),
        "pytorch-grad-cam LayerCAM": maps.library_cam(margin, films.pixels, "LayerCAM"),
        "Captum LayerGradCam": maps.from_grid(maps.captum_grids(margin, films.pixels), side),
        "Captum Occlusion": maps.from_grid(occlusion, side),
        "mean map of other films": maps.from_grid(maps.mean_of_others(grids, films.groups), side),
        "random map": maps.from_grid(maps.random_grids(grids, rng), side),
    }


def faithfulness(
    engine: Engine, films: Films, replaced: Maps, heat: Heat, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Scores per film, (N,); ROAD's are missing (NaN) beyond the first `ROAD` films."""

    def answers(pixels: Maps) -> NDArray[np.float64]:
        return maps.log_odds(engine, pixels)

    rank = ranks(heat.order, rng)
    deletion, insertion = deletion_insertion(answers, films.pixels, replaced, rank)
    few = slice(0, ROAD)
    imputed = np.full(len(films), np.nan)
    imputed[few] = road(answers, films.pixels[few], rank[few], rng)
    return {"deletion": deletion, "insertion": insertion, "road": imputed}


def shares(heat: Heat, chests: Sequence[Thorax | None]) -> dict[str, NDArray[np.float64]]:
    """Share of each film's heat in thorax and lungs, (N,); NaN without heat or without thorax."""
    rows = []
    for film, chest in zip(heat.heat, chests, strict=True):
        total = float(film.sum())
        if chest is None or total <= 0:
            rows.append((np.nan, np.nan))
        else:
            rows.append((film[chest.thorax].sum() / total, film[chest.lungs].sum() / total))
    thorax, lungs = np.array(rows, np.float64).T
    return {"thorax": thorax, "lungs": lungs}


def randomisation(model: LoadedModel, films: Films, seed: int) -> list[Row]:
    """Rank correlations of our maps with those of ever more random weights, and of other films."""
    grids = maps.our_grids(Engine(model, "cpu", "float32"), films.pixels)
    found: dict[float, list[NDArray[np.float64]]] = {share: [] for share in SHARES}
    for number in range(SEEDS):
        for share, randomised in cascade(model, films.pixels[:16], seed + number):
            other = maps.our_grids(Engine(randomised, "cpu", "float32"), films.pixels)
            found[share].append(spearman(grids, other))
    rows = [{"redrawn": named(share), **correlation(found[share])} for share in SHARES]
    others = spearman(grids, maps.mean_of_others(grids, films.groups))
    return [*rows, {"redrawn": "nothing; mean map of other films", **correlation([others])}]


def named(share: float) -> str:
    """Name of a step of the cascade."""
    known = {0.0: "head", SHARES[1]: "head and last stage", 1.0: "everything"}
    return known.get(share, f"head and last {share:.0%} of the stages")


def correlation(values: Sequence[NDArray[np.float64]]) -> Row:
    """Mean and mean size of correlations."""
    flat = np.concatenate(values)
    return {"mean": float(flat.mean()), "size": float(np.abs(flat).mean())}


def mean(values: NDArray[np.float64]) -> float:
    """Mean of what is there."""
    return float(np.nanmean(values))


def difference(
    values: NDArray[np.float64], groups: NDArray[np.str_], rng: np.random.Generator
) -> Row:
    """Mean of paired differences with its 95% interval."""
    there = ~np.isnan(values)
    low, high = interval(values[there], groups[there], rng)
    return {"mean": mean(values), "low": low, "high": high}


if __name__ == "__main__":
    main()
