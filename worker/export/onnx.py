"""ONNX: one file for onnxruntime, in browsers and on phones too; any number of films at once."""

from typing import TYPE_CHECKING, Any

import torch

from models.cards import Card, card_text
from worker.export.formats import Contents, Films
from worker.export.onnx_int8 import quantised
from worker.export.trunk import trunk_weights
from worker.inference.portable import INPUT, OUTPUTS, Answers, Portable

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # known to every onnxruntime since 1.14 (2023)
CARD_KEY = "screen.card"  # of the file's metadata


def convert(network: Portable, card: Card, calibration: Films | None) -> Contents:
    """Convert to float32, or to int8 where there are films to calibrate on.

    The model's card stands in the file's metadata too: a lone file still says its thresholds.
    """
    import onnx

    model = _exported(network, card.input.size_px)
    if calibration is not None:
        model = quantised(model, trunk_weights(network), calibration)
    model.doc_string = f"{card.name} {card.version}. {card.intended_use}"
    onnx.helper.set_model_props(model, {CARD_KEY: card_text(card)})
    onnx.checker.check_model(model, full_check=True)
    return (model.SerializeToString(),)


def open_runtime(contents: Contents, threads: int) -> "OnnxRuntime":
    """Open an ONNX file by onnxruntime, on the CPU."""
    return OnnxRuntime(contents[0])  # each call brings its own thread


class OnnxRuntime:
    """An ONNX file in onnxruntime: any number of calls at once, each on one core."""

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = 1, 1
        settings.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            content, settings, providers=["CPUExecutionProvider"]
        )

    def __call__(self, films: Films) -> Answers:
        """Answer N prepared films, (N, S, S)."""
        return Answers(*self._session.run(list(OUTPUTS), {INPUT: films[:, None]}))


def _exported(network: Portable, size_px: int) -> "ModelProto":
    """The network as an ONNX model, weights inside, for any number of films."""
    films = torch.rand(2, 1, size_px, size_px, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        program: Any = torch.onnx.export(
            network,
            (films,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("count")},),
            verbose=False,
        )
    model: ModelProto = program.model_proto
    for each in (*model.graph.node, *model.graph.value_info):
        del each.metadata_props[:]  # where in our sources, and in which folder, it came from
    return model
