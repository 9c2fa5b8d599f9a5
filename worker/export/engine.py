"""Exported files at work: an engine beside torch's, for the same pipeline."""

import numpy as np
import torch
from numpy.typing import NDArray

from models.exports import ExportedModel
from models.registry import LoadedModel
from worker.config import Model, usable_cores
from worker.errors import ConfigError, ScreenError
from worker.export.formats import FORMATS
from worker.inference.engine import Engine, finite
from worker.inference.predictor import Predicts
from worker.records import Prediction

_SERVED = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}  # format, which is the engine's name
_AT_ONCE = 1  # film in one pass: as fast here as several, and each answer is its film's alone


def start_engine(
    model: LoadedModel | ExportedModel, wanted: Model, *, cores: int | None = None
) -> Predicts:
    """Make a loaded model ready to predict as `[model]` says, on so many cores, else on all.

    Raises ConfigError where it cannot run there.
    """
    if isinstance(model, ExportedModel):
        return ExportedEngine(model, wanted, cores=cores)
    return Engine(model, wanted.device, wanted.precision, wanted.engine, cores=cores)


class ExportedEngine:
    """An exported file in its own runtime, on the CPU: a thread a core, a film a pass."""

    device = torch.device("cpu")
    at_once = _AT_ONCE

    def __init__(self, model: ExportedModel, wanted: Model, *, cores: int | None = None) -> None:
        self.note: str | None = None
        self.precision: str = model.about.precision
        self.threads = cores or usable_cores()
        self._name = _checked(model, wanted)
        try:
            form = FORMATS[model.about.format]
            form.require_runtime()
            self._answers = form.code.open_runtime(model.contents, self.threads)
        except ScreenError:
            raise
        except Exception as error:  # runtimes raise whatever they like
            raise ConfigError(
                f"{model.card.weights.file} is as its card says, but {self._name} cannot open it "
                f"({type(error).__name__}): export the model again"
            ) from error

    @property
    def place(self) -> str:
        """Where it runs, for people."""
        return f"cpu, {self._name}"

    def predict(self, inputs: NDArray[np.float32]) -> list[Prediction]:
        """Predict N prepared films, float32 (N, S, S) in [0, 1], in order.

        Raises FloatingPointError when a film or an answer is not finite: where OpenVINO clamps,
        NaN becomes a number.
        """
        if not np.isfinite(inputs).all():
            raise FloatingPointError("a film holds numbers that are not finite")
        found = self._answers(np.ascontiguousarray(inputs))
        columns = zip(
            found.probability.tolist(),
            found.heat_map,
            found.guard_score.tolist(),
            found.not_chest_score.tolist(),
            strict=True,
        )
        return [finite(Prediction(*row)) for row in columns]


def _checked(model: ExportedModel, wanted: Model) -> str:
    """The name of the runtime. Raises ConfigError where the configuration wants another thing."""
    file, about = model.card.weights.file, model.about
    if about.format not in _SERVED:
        raise ConfigError(
            f"{file} was exported for {about.format}, which does not screen here: name an ONNX or "
            "OpenVINO file, or the model itself"
        )
    expected = len(FORMATS[about.format].suffixes)
    if len(about.files) != expected:
        raise ConfigError(
            f"the card of {file} names {len(about.files)} files, an export for {about.format} has "
            f"{expected}: export the model again"
        )
    if wanted.engine != about.format:
        raise ConfigError(
            f"model.engine = '{wanted.engine}', but {file} was exported for {about.format}: set "
            f"engine = '{about.format}'"
        )
    if wanted.device not in ("auto", "cpu"):
        raise ConfigError(
            f"{file} runs on the CPU, but model.device = '{wanted.device}': set device = 'cpu'"
        )
    if wanted.precision not in ("auto", about.precision):
        raise ConfigError(
            f"model.precision = '{wanted.precision}', but {file} is {about.precision}: set "
            "precision = 'auto'"
        )
    return _SERVED[about.format]
