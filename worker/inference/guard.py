"""Is this film like those the model was validated on? Judged from the network's own features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import ModelError

_FIELDS = (
    "centre",
    "basis",
    "film_mean",
    "film_precision",
    "film_limit",
    "chest_mean",
    "chest_precision",
    "chest_limit",
    "adult_weight",
    "adult_bias",
)
_FAR = 1e30  # of a ratio of distances: as good as infinite, and finite in float32


@dataclass(frozen=True)
class GuardAnswer:
    """Scores in [0, 1] for N films, 0.5 at their limits, higher = less like what is known.

    `score` compares with the films the model was validated on; `not_chest` with all frontal
    chest films seen in training, adults too.
    """

    score: Tensor
    not_chest: Tensor


class Guard:
    """Two Gaussians in the space of the network's features, and a plane between child and adult.

    Features are channel means at several depths, standardised and projected on their principal
    axes (`centre` (D,), `basis` (D, K)). Distances are Mahalanobis (Lee et al. 2018).
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        missing = [name for name in _FIELDS if name not in tensors]
        if missing:
            raise ModelError(
                f"the weights hold no guard tensor '{missing[0]}': train the model again"
            )
        self._tensors = tensors

    def to(self, device: torch.device) -> "Guard":
        """The same guard on another device."""
        return Guard({name: tensor.to(device) for name, tensor in self._tensors.items()})

    def __call__(self, depths: Sequence[Tensor]) -> GuardAnswer:
        """Judge N films by the channel means of the network, one (N, C_k) per depth."""
        return self.judge(features(depths))

    def judge(self, joined: Tensor) -> GuardAnswer:
        """Judge N films by their features (N, D), see `features`."""
        t = self._tensors
        axes = project(joined, t["centre"], t["basis"])  # (N, K)
        film = odds(mahalanobis(axes, t["film_mean"], t["film_precision"]), t["film_limit"])
        chest = odds(mahalanobis(axes, t["chest_mean"], t["chest_precision"]), t["chest_limit"])
        adult = torch.sigmoid(axes @ t["adult_weight"] + t["adult_bias"])  # (N,)
        return GuardAnswer(torch.maximum(film, adult), chest)


def features(depths: Sequence[Tensor]) -> Tensor:
    """Join the depths and compress their range: signed square root, (N, D) float32."""
    joined = torch.cat([depth.float() for depth in depths], dim=1)
    return joined.sign() * joined.abs().sqrt()


def project(joined: Tensor, centre: Tensor, basis: Tensor) -> Tensor:
    """Coordinates on the principal axes, (N, D) → (N, K)."""
    return (joined - centre) @ basis


def mahalanobis(axes: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """Mahalanobis distances of (N, K) points, (N,)."""
    apart = axes - mean
    return ((apart @ precision) * apart).sum(dim=1).clamp(min=0).sqrt()


def odds(distance: Tensor, limit: Tensor) -> Tensor:
    """Map a distance to [0, 1] so that its limit comes to 0.5: steep, monotone.

    What overflows lies infinitely far; a distance that is no number would lie on no side of the
    guard's threshold, and pass: it counts as far, too.
    """
    ratio = ((distance / limit) ** 4).nan_to_num(nan=_FAR, posinf=_FAR)
    return ratio / (1 + ratio)
