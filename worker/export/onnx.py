"""ONNX: one file for onnxruntime, in browsers and on phones too; any number of films at once."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    return OnnxRuntime(contents[0], threads)


class OnnxRuntime:
    """An ONNX file in onnxruntime; each call takes `threads` cores. Safe from several threads."""

    def __init__(self, content: bytes, threads: int) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
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
    with _quiet("torch.onnx", "onnxscript", "onnx_ir"), torch.no_grad():
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


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Without what the exporters tell their makers' users: nothing to do about any of it."""
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
