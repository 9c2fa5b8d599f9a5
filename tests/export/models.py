"""Models with random weights, small enough to be converted in a test."""

import torch

from models.architectures import build
from models.cards import Card
from models.ensemble import Ensemble
from models.registry import LoadedModel
from tests.standin import make_card
from worker.inference.guard import features, mahalanobis

PX = 64


def random_model(architecture: str) -> LoadedModel:
    """A network whose answers differ from film to film, and a guard that judges by its features."""
    torch.manual_seed(5)
    films = torch.rand(8, 1, 4, 4).repeat_interleave(PX // 4, 2).repeat_interleave(PX // 4, 3)
    classifier = build(architecture, PX, 0.449, 0.226)
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # take the statistics of the films below, or no signal passes
    with torch.no_grad():
        classifier.train()(films)
        classifier.eval()
        torch.nn.init.normal_(classifier.head.weight)
        logits = classifier(films).logits
        classifier.head.weight /= (logits[:, 1] - logits[:, 0]).std()
        guard = _guard(features(classifier(films).depths))
    return LoadedModel(_card(architecture), Ensemble([classifier]).eval(), guard)


def _card(architecture: str) -> Card:
    return make_card(
        name=architecture,
        members=({"architecture": architecture, "mean": 0.449, "std": 0.226},),
        input={"size_px": PX, "low_percentile": 1, "high_percentile": 99},
    )


def _guard(seen: torch.Tensor, axes: int = 4) -> dict[str, torch.Tensor]:
    """A guard about the middle of some features (N, D), which half of them pass."""
    basis = torch.randn(seen.shape[1], axes)
    mean = (seen @ basis).mean(dim=0)
    limit = mahalanobis(seen @ basis, mean, torch.eye(axes)).median()
    guard = {
        "centre": torch.zeros(seen.shape[1]),
        "basis": basis,
        "adult_weight": torch.zeros(axes),
        "adult_bias": torch.tensor(-20.0),
    }
    for name in ("film", "chest"):
        guard |= {
            f"{name}_mean": mean,
            f"{name}_precision": torch.eye(axes),
            f"{name}_limit": limit,
        }
    return guard
