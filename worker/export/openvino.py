"""OpenVINO IR: two files, the network as XML and its weights, for Intel's runtime on CPUs."""

import hashlib
import threading
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.cards import Card, card_text
from worker.export.formats import Contents, Films
from worker.export.trunk import between, fingerprint, trunk_weights
from worker.inference.openvino_network import openvino_library
from worker.inference.portable import INPUT, OUTPUTS, Answers, Portable

_CARD_PATH = ["screen", "card"]  # in the file's rt_info
_WEIGHTS_PATH = ["screen", "weights_sha256"]


def convert(network: Portable, card: Card, calibration: Films | None) -> Contents:
    """Convert to float32, or to int8 where there are films to calibrate on.

    The model's card stands in the XML too: a lone export still says its thresholds. So does the
    SHA-256 of the weights: results name the XML's alone.
    """
    openvino = openvino_library()
    model = _converted(openvino, network, card.input.size_px)
    if calibration is not None:
        model = _quantised(model, trunk_weights(network), calibration)
    model.set_rt_info(card_text(card), _CARD_PATH)
    _, weights = _files(openvino, model)
    model.set_rt_info(hashlib.sha256(weights).hexdigest(), _WEIGHTS_PATH)
    return _files(openvino, model)


def _files(openvino: Any, model: Any) -> Contents:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def open_runtime(contents: Contents, threads: int) -> "OpenVinoRuntime":
    """Open an IR by OpenVINO, on the CPU, in float32 unless it is quantised."""
    xml, weights = contents
    return OpenVinoRuntime(xml, weights, threads)


class OpenVinoRuntime:
    """An IR in OpenVINO: `threads` calls at once, each on one core; more wait.

    Films go one by one: a fifth faster than any number at once.
    """

    def __init__(self, xml: bytes, weights: bytes, threads: int) -> None:
        openvino = openvino_library()
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        model = core.read_model(xml, weights)
        model.reshape([1, *model.inputs[0].get_partial_shape()[1:]])
        self._compiled = core.compile_model(model, "CPU", settings)
        self._own = threading.local()  # a request serves one thread

    def __call__(self, films: Films) -> Answers:
        """Answer N prepared films, (N, S, S)."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        answers = [self._one(film[None, None]) for film in films]
        return Answers(*map(np.concatenate, zip(*answers, strict=True)))

    def _one(self, film: Films) -> list[NDArray[np.float32]]:
        found = self._own.request.infer({INPUT: film})
        return [found[name].copy() for name in OUTPUTS]


def _converted(openvino: Any, network: Portable, size_px: int) -> Any:
    """The network as an OpenVINO model for any number of films, with names."""
    films = torch.rand(2, 1, size_px, size_px, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        program = torch.export.export(
            network, (films,), dynamic_shapes=({0: torch.export.Dim("count")},)
        )
        model = openvino.convert_model(program)
    model.inputs[0].get_tensor().set_names({INPUT})
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    return model


def _quantised(model: Any, trunk: Collection[str], films: Films) -> Any:
    """The model with the kernels of its trunk in int8, calibrated on films (N, S, S)."""
    import nncf

    inside = _inside(model, trunk)
    outside = [op.get_friendly_name() for op in model.get_ops() if _is_float(op, inside)]
    return nncf.quantize(
        model,
        nncf.Dataset([film[None, None] for film in films]),
        subset_size=len(films),
        ignored_scope=nncf.IgnoredScope(names=outside, validate=False),
    )


def _is_float(op: Any, inside: Collection[str]) -> bool:
    stays = ("Constant", "Parameter", "Result")
    return op.get_type_name() not in stays and op.get_friendly_name() not in inside


def _inside(model: Any, trunk: Collection[str]) -> set[str]:
    """Names of the nodes that hold kernels of the trunk, and of those in between.

    Raises ValueError where no kernel is found.
    """
    weighted = {
        reader.get_node().get_friendly_name()
        for op in model.get_ops()
        if op.get_type_name() == "Constant" and len(op.shape) > 1
        if fingerprint(op.data) in trunk
        for reader in op.output(0).get_target_inputs()
    }
    if not weighted:
        raise ValueError("no kernel of the trunk was found in the converted graph")
    consumers = {
        op.get_friendly_name(): [
            reader.get_node().get_friendly_name()
            for output in op.outputs()
            for reader in output.get_target_inputs()
        ]
        for op in model.get_ops()
    }
    return between(consumers, weighted)
