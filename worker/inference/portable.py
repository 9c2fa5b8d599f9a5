"""The whole model in one network, guard and calibration included, as other runtimes take it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.registry import LoadedModel
from models.traced import with_traced_gradients
from worker.inference.guard import Guard

INPUT = "films"


class Answers(NamedTuple):
    """What a runtime says of N films; the names are those of an exported file's outputs.

    `probability` (N,), calibrated; `heat_map` (N, h, w), each cell's part in the calibrated
    log-odds; `guard_score` and `not_chest_score` (N,), see `worker.inference.guard`. All float32.
    """

    probability: NDArray[np.float32]
    heat_map: NDArray[np.float32]
    guard_score: NDArray[np.float32]
    not_chest_score: NDArray[np.float32]


OUTPUTS = Answers._fields


class Portable(nn.Module):
    """A loaded model that answers films (N, 1, S, S) float32 in [0, 1] with `Answers`, as tensors.

    Convolutions are folded; a heat map by gradient is computed by operations of its own. The guard
    goes along: a phone must refuse a picture of a hand as the worker does.
    """

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        calibration = model.card.calibration
        self.network = with_traced_gradients(model.network.folded(), model.card.input.size_px)
        self.slope, self.offset = calibration.slope, calibration.offset
        self._guard_names = tuple(model.guard)
        for name, tensor in model.guard.items():
            self.register_buffer(_buffer(name), tensor)
        self.requires_grad_(False).eval()

    def forward(self, films: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Answer for films (N, 1, S, S), in the order of `Answers`."""
        found = self.network(films)
        guard = Guard({name: self.get_buffer(_buffer(name)) for name in self._guard_names})
        judged = guard(found.depths)
        return (
            torch.sigmoid(self.slope * found.margins + self.offset),
            self.slope * found.evidence,
            judged.score,
            judged.not_chest,
        )


def _buffer(name: str) -> str:
    return f"guard_{name}"
