"""`screen train` from films to a model folder: folds, calibration, final weights, guard, card."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from models.cards import CARD_NAME, Card
from models.ensemble import Ensemble
from worker.errors import UsageError
from worker.progress import Tell, nobody
from worker.train.dataset import TrainingSet, load_films, load_training_set
from worker.train.finish import Trained, score_fold, write_model
from worker.train.fit import fit
from worker.train.guard_fit import FoldFeatures
from worker.train.request import TrainingRequest
from worker.train.validate import Fold, Mask, Scores, folds

_CHECKPOINTS = "checkpoints"


def train(request: TrainingRequest, say: Callable[[str], None], tell: Tell = nobody) -> Card:
    """Train and write a model folder; the same command again resumes.

    Raises UsageError when `out` holds a finished model or the films cannot be used.
    """
    if (request.out / CARD_NAME).exists():
        raise UsageError(f"{request.out} holds a finished model: choose another --out")
    request.out.mkdir(parents=True, exist_ok=True)
    checkpoints = request.checkpoints or request.out / _CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    size_px = request.recipes[0].size_px
    films = load_training_set(request.folders, size_px, request.labels, tell)
    outside = load_films(request.outside, size_px, tell)
    say(f"{len(films.films)} films, {len(outside.films)} of another population")
    held = tuple(fold for fold in folds(films) if fold.chooses or request.audit)
    _require_both_classes(films, held)
    held_out, features = {}, []
    for fold in held:
        scores, fold_features = _fold(request, films, outside, fold, checkpoints, say, tell)
        held_out[fold.name] = scores
        features.append(fold_features)
    everything = np.ones(len(films.films), dtype=np.bool_)
    network = _ensemble(request, films, outside, everything, checkpoints, "final", say, tell)
    trained = Trained(films, outside, network, held, held_out, tuple(features))
    card = write_model(request, trained, tell)
    if request.checkpoints is None:
        shutil.rmtree(checkpoints)
    return card


def _require_both_classes(films: TrainingSet, held: Iterable[Fold]) -> None:
    """Raise UsageError before hours of training if a fold could not be trained or measured."""
    for fold in held:
        if any(len(set(films.targets[side])) < 2 for side in (fold.trained, fold.held_out)):
            patients = len({film.group for film in films.films})
            raise UsageError(
                f"these {len(films.films)} films are of too few patients ({patients}): with "
                f"'{fold.name}' held out a class has no film on one side; give films of more"
            )


def _fold(
    request: TrainingRequest,
    films: TrainingSet,
    outside: TrainingSet,
    fold: Fold,
    checkpoints: Path,
    say: Callable[[str], None],
    tell: Tell,
) -> tuple[Scores, FoldFeatures]:
    """Train without one domain, and with half of the films outside only, and score both."""
    say(f"held out: {fold.name}, {int(fold.held_out.sum())} films")
    what = f"without-{fold.name}"
    half = outside.subset(np.arange(len(outside.films)) < len(outside.films) // 2)
    network = _ensemble(request, films, half, fold.trained, checkpoints, what, say, tell)
    recipe, device = request.recipes[0], request.device
    scores, features = score_fold(network, films, outside, fold, recipe, device, tell)
    say(f"held out: {fold.name}, AUC {roc_auc_score(scores.targets, scores.margins):.4f}")
    return scores, features


def _ensemble(
    request: TrainingRequest,
    films: TrainingSet,
    outside: TrainingSet,
    trained: Mask,
    checkpoints: Path,
    what: str,
    say: Callable[[str], None],
    tell: Tell,
) -> Ensemble:
    """Train every member on the films of one fold."""
    some = films.subset(trained)
    networks = []
    for recipe in request.recipes:
        name = f"{recipe.architecture}-{recipe.seed}-{what.replace(' ', '-')}.pt"
        say(f"{recipe.architecture}, seed {recipe.seed}, {what}")
        path = checkpoints / name
        networks.append(fit(some, outside, recipe, request.device, path, say, tell))
    return Ensemble(networks).eval()
