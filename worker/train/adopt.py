"""`screen models adopt`: networks that were trained elsewhere become a model of ours.

Nothing is trained. The user's labelled films, which the networks must not have been trained on,
give calibration, operating point and guard, as held-out films do in a training of our own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.architectures import Classifier, build
from models.cards import CARD_NAME, Card
from models.ensemble import Ensemble
from models.errors import ModelError
from worker.errors import UsageError
from worker.progress import Tell, nobody
from worker.train.dataset import load_films, load_training_set
from worker.train.finish import Trained, score_fold, write_model
from worker.train.recipe import Recipe
from worker.train.request import TrainingRequest
from worker.train.validate import half_of_the_patients


def adopt(
    request: TrainingRequest,
    weights: Sequence[Path],
    say: Callable[[str], None],
    tell: Tell = nobody,
) -> Card:
    """Write a model folder of one file of weights for each of `request.recipes`.

    One half of the patients gives the guard's known films, the other half all that is chosen.
    Raises UsageError when `out` holds a model or the counts differ, ModelError when weights do
    not fit, NothingRead or NothingLearned when the films cannot serve.
    """
    if (request.out / CARD_NAME).exists():
        raise UsageError(f"{request.out} holds a finished model: choose another --out")
    if len(weights) != len(request.recipes):
        raise UsageError(
            f"{len(weights)} files of weights but {len(request.recipes)} architectures: give one "
            "--arch for each, in the same order"
        )
    pairs = zip(request.recipes, weights, strict=True)
    network = Ensemble([_load(recipe, path) for recipe, path in pairs]).eval()
    films = load_training_set(request.folders, request.recipes[0].size_px, request.labels, tell)
    outside = load_films(request.outside, request.recipes[0].size_px, tell)
    say(f"{len(films.films)} films, {len(outside.films)} of another population")
    fold = half_of_the_patients(films)
    recipe, device = request.recipes[0], request.device
    scores, features = score_fold(network, films, outside, fold, recipe, device, tell)
    request.out.mkdir(parents=True, exist_ok=True)
    trained = Trained(films, outside, network, (fold,), {fold.name: scores}, (features,))
    return write_model(request, trained, tell)


def _load(recipe: Recipe, path: Path) -> Classifier:
    """Build a network and fill it."""
    classifier = build(recipe.architecture, recipe.size_px, recipe.mean, recipe.std)
    try:
        classifier.net.load_state_dict(_tensors(path))
    except RuntimeError as error:
        raise ModelError(
            f"{path} does not fit {recipe.architecture} with two outputs: "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return classifier.eval()


def _tensors(path: Path) -> dict[str, Any]:
    """A state dict out of safetensors, or out of a file of torch.save (never running its code)."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the file makes it raise
        raise ModelError(
            f"cannot read weights from {path} ({type(error).__name__}): write them as safetensors, "
            "or with torch.save(net.state_dict(), FILE)"
        ) from error
    if isinstance(found, dict):
        found = found.get("state_dict", found)
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no state dict: save it with net.state_dict()")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}
