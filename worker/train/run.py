"""`screen train` from films to a model folder: folds, calibration, final weights, guard, card."""

import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.architectures import Classifier
from models.cards import (
    CARD_NAME,
    Calibration,
    Card,
    DecisionConstants,
    GuardConstants,
    HeatMapConstants,
    InputConstants,
    Population,
    PrecisionConstants,
    WeightsFile,
    write_card,
)
from models.weights import write_weights
from worker.errors import UsageError
from worker.inference.explain import evidence
from worker.train.calibrate import (
    calibrate,
    called,
    decision_constants,
    domain_metrics,
    probability,
)
from worker.train.dataset import TrainingSet, load_films, load_training_set
from worker.train.fit import fit
from worker.train.guard_fit import FoldFeatures, fit_guard
from worker.train.recipe import Recipe
from worker.train.validate import Fold, Scores, folds, score, served

WEIGHTS_NAME = "weights.safetensors"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class TrainingRequest:
    """What to train on and what to say of it. `outside` holds films of another population."""

    folders: tuple[Path, ...]
    outside: tuple[Path, ...]
    out: Path
    name: str
    version: str
    population: Population
    recipe: Recipe
    device: torch.device
    command: str


def train(request: TrainingRequest, say: Callable[[str], None]) -> Card:
    """Train and write a model folder; the same command again resumes.

    Raises UsageError when `out` holds a finished model or the films cannot be used.
    """
    if (request.out / CARD_NAME).exists():
        raise UsageError(f"{request.out} holds a finished model: choose another --out")
    checkpoints = request.out / _CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    films = load_training_set(request.folders, request.recipe.size_px)
    outside = load_films(request.outside, request.recipe.size_px)
    say(f"{len(films.films)} films, {len(outside.films)} of another population")
    held_out, features = {}, []
    for fold in folds(films):
        scores, fold_features = _fold(request, films, outside, fold, checkpoints, say)
        held_out[fold.name] = scores
        features.append(fold_features)
    classifier = fit(films, request.recipe, request.device, checkpoints / "final.pt", say)
    card = _write(request, classifier, films, outside, held_out, features)
    shutil.rmtree(checkpoints)
    return card


def _fold(
    request: TrainingRequest,
    films: TrainingSet,
    outside: TrainingSet,
    fold: Fold,
    checkpoints: Path,
    say: Callable[[str], None],
) -> tuple[Scores, FoldFeatures]:
    """Train without one domain and score it."""
    say(f"held out: {fold.name}, {int(fold.held_out.sum())} films")
    trained, unseen = films.subset(~fold.held_out), films.subset(fold.held_out)
    recipe, device = request.recipe, request.device
    checkpoint = checkpoints / f"without-{fold.name.replace(' ', '-')}.pt"
    classifier = fit(trained, recipe, device, checkpoint, say)
    scores = score(classifier, unseen, recipe, device)
    say(f"held out: {fold.name}, AUC {roc_auc_score(scores.targets, scores.margins):.4f}")
    features = FoldFeatures(
        score(classifier, trained, recipe, device).features,
        scores.features,
        score(classifier, outside, recipe, device).features,
    )
    return scores, features


def _write(
    request: TrainingRequest,
    classifier: Classifier,
    films: TrainingSet,
    outside: TrainingSet,
    held_out: dict[str, Scores],
    features: Sequence[FoldFeatures],
) -> Card:
    recipe, device = request.recipe, request.device
    known = score(classifier, films, recipe, device)
    unknown = score(classifier, outside, recipe, device)
    guard = fit_guard(known.features, unknown.features, features)
    calibration = calibrate(held_out)
    decision = decision_constants(held_out, calibration)
    sha256 = write_weights(classifier.net.state_dict(), guard, request.out / WEIGHTS_NAME)
    card = Card(
        name=request.name,
        version=request.version,
        architecture=recipe.architecture,
        labels=("NORMAL", "PNEUMONIA"),
        weights=WeightsFile(file=WEIGHTS_NAME, sha256=sha256),
        input=InputConstants(
            size_px=recipe.size_px,
            low_percentile=recipe.low_percentile,
            high_percentile=recipe.high_percentile,
            mean=recipe.mean,
            std=recipe.std,
        ),
        calibration=calibration,
        decision=decision,
        guard=GuardConstants(threshold=0.5, fitted_on="99% of films of each held-out domain pass"),
        heat_map=HeatMapConstants(
            evidence_scale=_evidence_scale(classifier, films, recipe, calibration.slope)
        ),
        precision=_precision(classifier, films, recipe, calibration, decision),
        population=request.population,
        intended_use=_INTENDED_USE,
        not_for=_NOT_FOR,
        training=_provenance(request, films, outside),
        metrics=_metrics(films, held_out, calibration, decision),
    )
    write_card(card, request.out)
    return card


def _metrics(
    films: TrainingSet,
    held_out: dict[str, Scores],
    calibration: Calibration,
    decision: DecisionConstants,
) -> dict[str, Any]:
    """What was measured on held-out domains; the headline that pages show is the worst of each."""
    domains = {
        name: domain_metrics(scores, calibration, decision) for name, scores in held_out.items()
    }
    worst = {key: min(domain[key] for domain in domains.values()) for key in ("auc", *_RATES)}
    headline = {"AUC, worst held-out source": f"{worst['auc']:.3f}"}
    headline |= {f"{_RATES[key]}, worst held-out source": f"{worst[key]:.1%}" for key in _RATES}
    return {
        "headline": headline,
        "held_out_domains": domains,
        "thumbnail_baseline_auc": _thumbnail_baseline(films),
    }


_RATES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "answered": "Answered",
    "accuracy_answered": "Accuracy where answered",
}
_INTENDED_USE = (
    "Ordering a worklist of frontal chest films of children by the suspicion of pneumonia, "
    "for a radiologist who reads every film."
)
_NOT_FOR = (
    "diagnosis, or ruling out pneumonia, without a radiologist",
    "adults, lateral films, CT, or any film outside the validated population",
    "findings other than pneumonia",
)


def _provenance(
    request: TrainingRequest, films: TrainingSet, outside: TrainingSet
) -> dict[str, Any]:
    return {
        "command": request.command,
        "recipe": asdict(request.recipe),
        "films": len(films.films),
        "patients": len({film.group for film in films.films}),
        "films_outside_for_guard": len(outside.films),
        "device": request.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _evidence_scale(
    classifier: Classifier, films: TrainingSet, recipe: Recipe, slope: float
) -> float:
    """Top of the heat map's scale: what one cell in a thousand of pneumonia films exceeds."""
    pneumonias = films.pixels[films.targets == 1][::8]
    cells = []
    with torch.inference_mode():
        for start in range(0, len(pneumonias), 64):
            answer = classifier(served(pneumonias[start : start + 64], recipe))
            cells.append(evidence(answer, classifier.head.weight, slope).flatten())
    return float(np.ceil(np.quantile(torch.cat(cells).numpy(), 0.999)))


def _precision(
    classifier: Classifier,
    films: TrainingSet,
    recipe: Recipe,
    calibration: Calibration,
    decision: DecisionConstants,
) -> PrecisionConstants:
    """Screen every eighth film in float32 and in bfloat16, and compare."""
    some = TrainingSet(films.pixels[::8], films.films[::8])
    cpu = torch.device("cpu")
    exact = score(classifier, some, recipe, cpu)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = score(classifier, some, recipe, cpu)
    calls = [called(scores, calibration, decision) for scores in (exact, reduced)]
    scores = [probability(scores, calibration) for scores in (exact, reduced)]
    return PrecisionConstants(
        bfloat16_decisions_changed=round(float((calls[0] != calls[1]).mean()), 4),
        bfloat16_mean_probability_change=round(float(np.abs(scores[0] - scores[1]).mean()), 4),
    )


def _thumbnail_baseline(films: TrainingSet) -> dict[str, float]:
    """AUC of a logistic regression on 16 × 16 pixels, on the same folds: what shortcuts give."""
    thumbnails = np.stack(
        [cv2.resize(film, (16, 16), interpolation=cv2.INTER_AREA).ravel() for film in films.pixels]
    )
    thumbnails = thumbnails.astype(np.float64) / 255
    found = {}
    for fold in folds(films):
        seen = ~fold.held_out
        model = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
        model.fit(thumbnails[seen], films.targets[seen])
        margins = model.decision_function(thumbnails[fold.held_out])
        found[fold.name] = round(float(roc_auc_score(films.targets[fold.held_out], margins)), 4)
    return found
