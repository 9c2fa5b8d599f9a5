"""LiteRT, once called TensorFlow Lite: one .tflite for phones and browsers; one film a pass."""

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.cards import Card
from worker.export.formats import Contents, Films
from worker.export.trunk import trunk_weights
from worker.inference.portable import INPUT, OUTPUTS, Answers, Portable


def convert(network: Portable, card: Card, calibration: Films | None) -> Contents:
    """Convert to float32, or to int8 where there are films to calibrate on."""
    import litert_torch

    film = torch.rand(1, 1, card.input.size_px, card.input.size_px)
    with torch.no_grad():
        made = litert_torch.convert(_Named(network).eval(), sample_kwargs={INPUT: film})
    content = bytes(made.model_content())
    if calibration is not None:
        from worker.export.litert_int8 import quantised

        content = quantised(content, trunk_weights(network), calibration)
    return (content,)


def open_runtime(contents: Contents, threads: int) -> "LitertRuntime":
    """Open a .tflite by LiteRT, on the CPU."""
    return LitertRuntime(contents[0])


class LitertRuntime:
    """A .tflite in LiteRT, on one core. Safe from several threads; one at a time is served."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._ask = self._interpreter.get_signature_runner()
        self._one_at_a_time = threading.Lock()

    def __call__(self, films: Films) -> Answers:
        """Answer N prepared films, (N, S, S)."""
        answers = [self._one(film) for film in films]
        return Answers(*(np.concatenate(column) for column in zip(*answers, strict=True)))

    def _one(self, film: Films) -> list[Any]:
        with self._one_at_a_time:
            found = self._ask(**{INPUT: np.ascontiguousarray(film[None, None])})
            return [found[name].copy() for name in OUTPUTS]


class _Named(nn.Module):
    """A network whose outputs have names."""

    def __init__(self, network: Portable) -> None:
        super().__init__()
        self.network = network

    def forward(self, films: Tensor) -> dict[str, Tensor]:
        return dict(zip(OUTPUTS, self.network(films), strict=True))
