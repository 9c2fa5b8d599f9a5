"""Make a model folder of trained networks: calibration, operating point, guard, weights, card."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from models.cards import (
    Calibration,
    Card,
    DecisionConstants,
    GuardConstants,
    HeatMapConstants,
    InputConstants,
    Member,
    PrecisionConstants,
    Reference,
    WeightsFile,
    write_card,
)
from models.ensemble import Ensemble
from models.weights import write_weights
from worker.progress import Tell, nobody
from worker.report.drift import binned
from worker.train.calibrate import calibrate, called, decision_constants, probability
from worker.train.dataset import TrainingSet
from worker.train.guard_fit import GUARD_THRESHOLD, FoldFeatures, Judged, fit_guard, judge
from worker.train.measure import measured
from worker.train.recipe import Recipe
from worker.train.request import TrainingRequest
from worker.train.validate import Fold, Mask, Scores, score, served

WEIGHTS_NAME = "weights.safetensors"

_INTENDED_USE = (
    "Ordering a worklist of frontal chest films by the suspicion of {finding}, "
    "for a radiologist who reads every film."
)
_NOT_FOR = (
    "diagnosis, or ruling out {finding}, without a radiologist",
    "lateral films, CT, or any film outside the validated population",
    "findings other than {finding}",
)


@dataclass(frozen=True)
class Trained:
    """All that a training gave: the films, the final networks, and what each fold's said.

    `held_out` goes by the names of `folds`, `features` by their order.
    """

    films: TrainingSet
    outside: TrainingSet
    network: Ensemble
    folds: tuple[Fold, ...]
    held_out: dict[str, Scores]
    features: tuple[FoldFeatures, ...]


def score_fold(
    network: Ensemble,
    films: TrainingSet,
    outside: TrainingSet,
    fold: Fold,
    recipe: Recipe,
    device: torch.device,
    tell: Tell = nobody,
) -> tuple[Scores, FoldFeatures]:
    """What the network of a fold says of its held-out films, and what the guard is fitted on."""
    known = films.subset(fold.trained & every_third(films))
    scores = score(network, films.subset(fold.held_out), recipe, device, tell)
    features = FoldFeatures(
        score(network, known, recipe, device, tell).features,
        scores.features,
        score(network, outside, recipe, device, tell).features,
        fold.chooses,
    )
    return scores, features


def every_third(films: TrainingSet) -> Mask:
    """Films enough for the guard's Gaussians, in a third of the time."""
    every: Mask = np.arange(len(films.films)) % 3 == 0
    return every


def write_model(request: TrainingRequest, trained: Trained, tell: Tell = nobody) -> Card:
    """Write weights and card into `request.out`."""
    recipe, films, network = request.recipes[0], trained.films, trained.network
    finding = films.labels[1].lower()
    known = score(network, films.subset(every_third(films)), recipe, request.device, tell)
    unknown = score(network, trained.outside, recipe, request.device, tell)
    guard = fit_guard(known.features, unknown.features, trained.features)
    choosing = {f.name: trained.held_out[f.name] for f in trained.folds if f.chooses}
    calibration = calibrate(choosing)
    decision = decision_constants(choosing, calibration)
    judged = tuple(map(judge, trained.features))
    nets = [member.net.state_dict() for member in network.members]
    sha256 = write_weights(nets, guard, request.out / WEIGHTS_NAME)
    card = Card(
        name=request.name,
        version=request.version,
        members=tuple(
            Member(architecture=r.architecture, mean=r.mean, std=r.std) for r in request.recipes
        ),
        labels=films.labels,
        weights=WeightsFile(file=WEIGHTS_NAME, sha256=sha256),
        input=InputConstants(
            size_px=recipe.size_px,
            low_percentile=recipe.low_percentile,
            high_percentile=recipe.high_percentile,
        ),
        calibration=calibration,
        decision=decision,
        guard=GuardConstants(
            threshold=GUARD_THRESHOLD,
            fitted_on="99.5% of the films of each held-out domain pass each of its limits",
        ),
        heat_map=HeatMapConstants(
            evidence_scale=_evidence_scale(network, films, recipe, calibration.slope)
        ),
        precision=_precision(network, films, recipe, calibration, decision),
        population=request.population,
        intended_use=_INTENDED_USE.format(finding=finding),
        not_for=tuple(line.format(finding=finding) for line in _NOT_FOR),
        training=_provenance(request, trained),
        metrics=measured(films, trained.folds, trained.held_out, judged, calibration, decision),
        reference=_reference(trained, judged, calibration),
    )
    write_card(card, request.out)
    return card


def _reference(trained: Trained, judged: Sequence[Judged], calibration: Calibration) -> Reference:
    """How the networks of the choosing folds scored films that they had not seen."""
    chosen = [
        (probability(trained.held_out[fold.name], calibration), each.held_out)
        for fold, each in zip(trained.folds, judged, strict=True)
        if fold.chooses
    ]
    names = ", ".join(fold.name for fold in trained.folds if fold.chooses)
    scores, guard = map(np.concatenate, zip(*chosen, strict=True))
    return Reference(
        films=len(guard),
        of=f"{len(guard):,} films, each held out from the network that scored it: {names}",
        scores=binned(scores[guard <= GUARD_THRESHOLD]),
        guard=binned(guard),
    )


def _provenance(request: TrainingRequest, trained: Trained) -> dict[str, Any]:
    films = trained.films
    return {
        "command": request.command,
        "recipes": [asdict(recipe) for recipe in request.recipes],
        "films": len(films.films),
        "films_sha256": films.sha256,
        "patients": len({film.group for film in films.films}),
        "films_outside_for_guard": len(trained.outside.films),
        "device": request.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _evidence_scale(network: Ensemble, films: TrainingSet, recipe: Recipe, slope: float) -> float:
    """Top of the heat map's scale: what one cell in a thousand of positive films exceeds."""
    positives = films.pixels[films.targets == 1][::8]
    cells = []
    with torch.inference_mode():
        for start in range(0, len(positives), 64):
            answer = network(served(positives[start : start + 64], recipe))
            cells.append(slope * answer.evidence.flatten())
    return float(np.ceil(np.quantile(torch.cat(cells).numpy(), 0.999)))


def _precision(
    network: Ensemble,
    films: TrainingSet,
    recipe: Recipe,
    calibration: Calibration,
    decision: DecisionConstants,
) -> PrecisionConstants:
    """Screen every eighth film in float32 and in bfloat16, and compare."""
    every = np.arange(len(films.films)) % 8 == 0
    some, cpu = films.subset(every), torch.device("cpu")
    exact = score(network, some, recipe, cpu)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = score(network, some, recipe, cpu)
    calls = [called(scores, calibration, decision) for scores in (exact, reduced)]
    scores = [probability(scores, calibration) for scores in (exact, reduced)]
    return PrecisionConstants(
        bfloat16_decisions_changed=round(float((calls[0] != calls[1]).mean()), 4),
        bfloat16_mean_probability_change=round(float(np.abs(scores[0] - scores[1]).mean()), 4),
    )
