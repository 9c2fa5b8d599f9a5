"""Run the network on batches of prepared films."""

import logging
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.ensemble import Ensemble
from models.explain import Explained
from models.registry import LoadedModel
from worker.errors import ConfigError
from worker.inference.guard import Guard

log = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one film.

    `probability` is calibrated; `evidence` is float32 (h, w), each cell's part in the calibrated
    log-odds (see `models.explain`); `guard_score` and `not_chest_score` are in [0, 1], 0.5 at the
    guard's own limits.
    """

    probability: float
    evidence: NDArray[np.float32]
    guard_score: float
    not_chest_score: float


class Engine:
    """A model on a device, ready to predict."""

    def __init__(
        self, model: LoadedModel, device: str = "auto", precision: Precision = "auto"
    ) -> None:
        self.card = model.card
        self.device = choose_device(device)
        self._guard = Guard(model.guard).to(self.device)
        # Folding halves the time in float32 and changes nothing; in bfloat16 it costs accuracy.
        networks = {"float32": model.network.folded(), "bfloat16": model.network}
        self.precision = self._choose_precision(precision, networks)
        self._network = self._placed(networks[self.precision])

    def predict(self, inputs: NDArray[np.float32]) -> list[Prediction]:
        """Predict N prepared films, float32 (N, S, S) in [0, 1], in order."""
        if not len(inputs):
            return []
        calibration = self.card.calibration
        with torch.inference_mode():
            answer = self._forward(self._network, inputs, self.precision)
            log_odds = calibration.slope * answer.margins + calibration.offset
            guard = self._guard(answer.depths)
            columns = zip(
                torch.sigmoid(log_odds.double()).tolist(),
                (calibration.slope * answer.evidence).cpu().numpy(),
                guard.score.tolist(),
                guard.not_chest.tolist(),
                strict=True,
            )
        return [Prediction(*row) for row in columns]

    def _forward(self, network: Ensemble, inputs: NDArray[np.float32], precision: str) -> Explained:
        films = torch.from_numpy(np.ascontiguousarray(inputs))[:, None]  # (N, 1, S, S)
        films = films.to(self.device).contiguous(memory_format=torch.channels_last)
        reduced = precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            answer: Explained = network(films)
            return answer

    def _placed(self, network: Ensemble) -> Ensemble:
        placed: Ensemble = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def _choose_precision(self, precision: Precision, networks: dict[str, Ensemble]) -> str:
        """As configured; else the faster one, if the card says that decisions stay the same."""
        if precision != "auto":
            return precision
        if self.card.precision.bfloat16_decisions_changed > 0:
            return "float32"
        seconds = {name: self._measure(self._placed(networks[name]), name) for name in networks}
        return min(seconds, key=lambda name: seconds[name])

    def _measure(self, network: Ensemble, precision: str) -> float:
        """Seconds for four films: the best of two passes after one to warm up."""
        size, best = self.card.input.size_px, float("inf")
        films = np.zeros((4, size, size), dtype=np.float32)
        with torch.inference_mode():
            self._forward(network, films, precision)
            for _ in range(2):
                start = time.perf_counter()
                self._forward(network, films, precision).margins.cpu()
                best = min(best, time.perf_counter() - start)
        return best


def choose_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device.

    Raises ConfigError when the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(
                f"model.device = '{name}', but torch {torch.__version__} sees {count} CUDA "
                "devices: use 'auto' or 'cpu', or see 'screen doctor'"
            )
    return device
