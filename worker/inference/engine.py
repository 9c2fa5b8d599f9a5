"""Run the network on batches of prepared films."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.ensemble import Ensemble
from models.explain import Explained
from models.onednn import fused
from models.registry import LoadedModel
from worker.config import usable_cores
from worker.errors import ConfigError, DeviceLost
from worker.inference import openvino_network
from worker.inference.guard import Guard
from worker.records import Prediction

log = logging.getLogger(__name__)

# How the libraries of CUDA tell of memory, and of anything, in RuntimeErrors without a class
_NO_MEMORY = ("out of memory", "ALLOC_FAILED", "CUDNN_STATUS_NOT_INITIALIZED")
_CUDA = ("CUDA", "CUDNN", "CUBLAS", "cuDNN", "cuBLAS", "NVRTC")

# On a CPU few films at a time stay in its caches: 4 take three quarters of the time per film of 16
_ON_CPU_AT_ONCE = 4

Precision = Literal["auto", "float32", "bfloat16"]
Runtime = Literal["torch", "openvino", "onnx"]
_Network = Callable[[Tensor], Explained]


class _NoMemory(Exception):
    """The device has no room for so many films at once."""


class Engine:
    """A model on a device, ready to predict.

    When a CUDA device runs out of memory, fewer films go at once, down to one, and then the CPU
    takes over for good. `device` is where the network is now; `note` says what had to be done.
    On a CPU several threads may predict at once, as many as `cores`, else as there are. `runtime`
    may be OpenVINO, on a CPU.
    """

    def __init__(
        self,
        model: LoadedModel,
        device: str = "auto",
        precision: Precision = "auto",
        runtime: Runtime = "torch",
        *,
        cores: int | None = None,
    ) -> None:
        self.card, self._cores = model.card, cores
        if runtime == "onnx":
            raise ConfigError(
                "model.engine = 'onnx' runs exported files: write one with 'screen export "
                f"{model.card.name} --format onnx --out exports' and name it as the model, or "
                "set 'torch'"
            )
        if runtime == "openvino" and device not in ("auto", "cpu"):
            raise ConfigError(
                f"model.engine = 'openvino' runs on the CPU, but model.device = '{device}': "
                "set device = 'cpu', or engine = 'torch'"
            )
        self.device = choose_device("cpu" if runtime == "openvino" else device)
        self.runtime = runtime
        self.note: str | None = None
        self._room: int | None = None  # films in one pass, once a device's memory has set a limit
        self._gave_up = False  # the CUDA device
        self._guard = Guard(model.guard)
        # Folding halves the time in float32 and changes nothing; in bfloat16 it costs accuracy.
        networks = {"float32": model.network.folded(), "bfloat16": model.network}
        try:
            self._start(precision, networks)
        except _NoMemory:
            self._give_up()
            self._start(precision, networks)

    def _start(self, precision: Precision, networks: dict[str, Ensemble]) -> None:
        if self.runtime == "openvino":
            self.precision = precision.replace("auto", "float32")
            self._network: _Network = openvino_network.OpenVinoNetwork(
                networks["float32"], self.card.input.size_px, self.precision, self.threads
            )
            return
        with _cuda_errors():
            self.precision = self._choose_precision(precision, networks)
            self._network = self._ready(networks[self.precision], self.precision)
            self._guard.to(self.device)

    @property
    def place(self) -> str:
        """Where the network runs, for people: the device, and the runtime unless it is torch."""
        return f"{self.device}{', OpenVINO' if self.runtime == 'openvino' else ''}"

    @property
    def threads(self) -> int:
        """Threads that may predict at once: one a core on a CPU, one for a GPU."""
        return (self._cores or usable_cores()) if self.device.type == "cpu" else 1

    @property
    def at_once(self) -> int | None:
        """Films that go through the network in one pass; `None` for as many as there are."""
        if self.runtime == "openvino":
            return openvino_network.AT_ONCE
        return _ON_CPU_AT_ONCE if self.device.type == "cpu" and not self._room else self._room

    def predict(self, inputs: NDArray[np.float32]) -> list[Prediction]:
        """Predict N prepared films, float32 (N, S, S) in [0, 1], in order.

        Raises DeviceLost when a CUDA device fails for another reason than its memory, and
        FloatingPointError when an answer is not finite.
        """
        predictions: list[Prediction] = []
        while len(predictions) < len(inputs):
            start = len(predictions)
            films = inputs[start : start + (self.at_once or len(inputs))]
            try:
                with _cuda_errors():
                    predictions += self._predict(films)
                continue
            except _NoMemory:
                if self._gave_up:
                    raise
            self._make_room(len(films))  # out here: the error's frames held the films' tensors
        return predictions

    def _predict(self, inputs: NDArray[np.float32]) -> list[Prediction]:
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
            return [finite(Prediction(*row)) for row in columns]

    def _make_room(self, films: int) -> None:
        """Go on with half as many films at once, or without the CUDA device."""
        if films > 1:
            self._room = films // 2
            self.note = f"CUDA ran out of memory: {self._room} films at once since then"
            log.warning("%s", self.note)
            torch.cuda.empty_cache()  # does nothing where CUDA was never used
            return
        self._give_up()
        self._network = self._ready(cast("Ensemble", self._network), self.precision)
        self._guard.to(self.device)

    def _give_up(self) -> None:
        self.device, self._room, self._gave_up = torch.device("cpu"), None, True
        self.note = "CUDA ran out of memory: on the CPU since then, more slowly"
        log.warning("%s", self.note)

    def _forward(self, network: _Network, inputs: NDArray[np.float32], precision: str) -> Explained:
        films = torch.from_numpy(np.ascontiguousarray(inputs))[:, None]  # (N, 1, S, S)
        films = films.to(self.device).contiguous(memory_format=torch.channels_last)
        reduced = precision == "bfloat16" and self.runtime == "torch"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=reduced):
            return network(films)

    def _placed(self, network: Ensemble) -> Ensemble:
        placed: Ensemble = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def _ready(self, network: Ensemble, precision: str) -> Ensemble:
        """The network on its device, as fast as it goes there."""
        placed = self._placed(network)
        if self.device.type == "cpu" and precision == "float32":
            return fused(placed, self.card.input.size_px)
        return placed

    def _choose_precision(self, precision: Precision, networks: dict[str, Ensemble]) -> str:
        """As configured; else the faster one, if the card says that decisions stay the same."""
        if precision != "auto":
            return precision
        if self.card.precision.bfloat16_decisions_changed > 0:
            return "float32"
        seconds = {n: self._measure(self._ready(each, n), n) for n, each in networks.items()}
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


def finite(prediction: Prediction) -> Prediction:
    """The prediction; NaN lies below every threshold, and would be called negative.

    Raises FloatingPointError, an error of the program: the film that it stays with is found alone.
    """
    scores = (prediction.probability, prediction.guard_score, prediction.not_chest_score)
    if not (np.isfinite(scores).all() and np.isfinite(prediction.evidence).all()):
        raise FloatingPointError("the network's answer is not a finite number")
    return prediction


@contextmanager
def _cuda_errors() -> Iterator[None]:
    """Tell memory that is used up (_NoMemory) from a device that failed (DeviceLost)."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _NoMemory from error
    except RuntimeError as error:
        text = str(error)
        if not any(each in text for each in _CUDA):
            raise
        if any(each in text for each in _NO_MEMORY):
            raise _NoMemory from error
        raise DeviceLost(
            "the CUDA device failed; no film is to blame. See 'nvidia-smi' and the system's log, "
            "then start again, or set model.device = 'cpu'"
        ) from error


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
