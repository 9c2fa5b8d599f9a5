"""The same network, run by OpenVINO on the CPU: an optional engine, measured by `screen doctor`.

Nothing but this module and `worker.export.openvino` knows OpenVINO.
"""

import sys
import threading
import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from models.ensemble import Ensemble
from models.explain import Explained
from worker.errors import ConfigError

AT_ONCE = 1  # films in one pass: fewer is faster here, and each answer is its film's alone


def is_installed() -> bool:
    """Whether OpenVINO is there to be taken."""
    return find_spec("openvino") is not None


class OpenVinoNetwork:
    """A network compiled for the CPU, as many passes at once as `threads`, each on one core.

    Takes and gives what `Ensemble` does. Raises ConfigError where OpenVINO is not installed or
    cannot take the network: evidence by gradient, say, is nothing that a compiled network gives.
    """

    def __init__(self, network: Ensemble, size_px: int, precision: str, threads: int) -> None:
        if not all(member.is_closed_form for member in network.members):
            raise ConfigError(
                "model.engine = 'openvino', but this architecture's heat map needs a backward "
                "pass: use 'torch'"
            )
        settings = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        openvino = openvino_library()
        try:
            converted = _converted(openvino, network, size_px)
            self._compiled = openvino.Core().compile_model(converted, "CPU", settings)
        except Exception as error:  # OpenVINO raises whatever it likes
            raise ConfigError(
                f"model.engine = 'openvino', but OpenVINO cannot take this network "
                f"({type(error).__name__}): use 'torch'"
            ) from error
        self._own = threading.local()  # a request serves one thread

    def __call__(self, films: Tensor) -> Explained:
        """Answer for films (N, 1, S, S) in [0, 1]. See `Explained` for the shapes.

        Raises FloatingPointError when a film is not finite: where OpenVINO clamps, NaN becomes a
        number.
        """
        if not torch.isfinite(films).all():
            raise FloatingPointError("a film holds numbers that are not finite")
        answers = [self._one(film[None]) for film in films]
        margins, evidence, *depths = (torch.cat(part) for part in zip(*answers, strict=True))
        return Explained(margins, evidence, tuple(depths))

    def _one(self, film: Tensor) -> list[Tensor]:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer([film.contiguous().numpy()])
        return [torch.from_numpy(found[number].copy()) for number in range(len(found))]


class _AsTuple(nn.Module):
    """An ensemble that answers in a tuple, as converters want it."""

    def __init__(self, network: Ensemble) -> None:
        super().__init__()
        self.network = network

    def forward(self, films: Tensor) -> tuple[Tensor, ...]:
        answer = self.network(films)
        return answer.margins, answer.evidence, *answer.depths


def _converted(openvino: Any, network: Ensemble, size_px: int) -> Any:
    film = torch.zeros(AT_ONCE, 1, size_px, size_px)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: the shapes it takes as given are given
        return openvino.convert_model(
            _AsTuple(network).eval(), example_input=film, input=list(film.shape)
        )


def openvino_library() -> Any:
    """The library, without its telemetry: importing it would report to its makers.

    A module that is `None` cannot be imported, and OpenVINO then does without.
    """
    if not is_installed():
        raise ConfigError(
            "model.engine = 'openvino', but OpenVINO is not installed: pip install "
            "'cxr-screen[openvino]', or set 'torch'"
        )
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino
