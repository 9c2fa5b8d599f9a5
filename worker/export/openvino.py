"""OpenVINO IR: two files, the network as XML and its weights, for Intel's runtime on CPUs."""

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from models.cards import Card, card_text
from worker.export.formats import Contents, Films
from worker.inference.openvino_network import openvino_library
from worker.inference.portable import INPUT, OUTPUTS, Answers, Portable

_CARD_PATH = ["screen", "card"]  # in the file's rt_info


def convert(network: Portable, card: Card, calibration: Films | None) -> Contents:
    """Convert to float32, or to int8 where there are films to calibrate on.

    The model's card stands in the XML too: a lone export still says its thresholds.
    """
    openvino = openvino_library()
    model = _converted(openvino, network, card.input.size_px)
    model.set_rt_info(card_text(card), _CARD_PATH)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def open_runtime(contents: Contents, threads: int) -> "OpenVinoRuntime":
    """Open an IR by OpenVINO, on the CPU, in float32 unless it is quantised."""
    xml, weights = contents
    return OpenVinoRuntime(xml, weights, threads)


class OpenVinoRuntime:
    """An IR in OpenVINO: `threads` calls at once, each on one core; more wait."""

    def __init__(self, xml: bytes, weights: bytes, threads: int) -> None:
        openvino = openvino_library()
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
        }
        self._compiled = core.compile_model(core.read_model(xml, weights), "CPU", settings)
        self._own = threading.local()  # a request serves one thread

    def __call__(self, films: Films) -> Answers:
        """Answer N prepared films, (N, S, S)."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer({INPUT: films[:, None]})
        return Answers(*(found[name].copy() for name in OUTPUTS))


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
