"""int8 for LiteRT: static, a scale a channel, of the trunk alone."""

import io
import re
from collections.abc import Collection, Iterator
from contextlib import redirect_stderr
from typing import Any

import numpy as np

from worker.export.formats import Films
from worker.export.trunk import between, fingerprint
from worker.inference.portable import INPUT

_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_IN_BETWEEN = ("ADD", "PAD", "MAX_POOL_2D")  # else each is a way out of int8 and in again


def quantised(content: bytes, trunk: Collection[str], films: Films) -> bytes:
    """The model with the kernels of its trunk in int8, their scales from what real films cause.

    `trunk` are fingerprints, `films` (N, S, S). Raises ValueError where no kernel is found.
    """
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(bytearray(content))
    for kind, output in _chosen(content, trunk):
        quantizer.add_static_config(
            f"^{re.escape(output)};?$", kind, activation_num_bits=8, weight_num_bits=8
        )
    inputs = [{INPUT: film[None, None]} for film in films]
    with redirect_stderr(io.StringIO()):  # bars of its own
        measured = quantizer.calibrate({"serving_default": inputs}, num_threads=1)
        made = quantizer.quantize(measured, enable_progress_report=False)
    return bytes(made.quantized_model)


def _chosen(content: bytes, trunk: Collection[str]) -> Iterator[tuple[str, str]]:
    """Kind and output of the operations to quantise."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    operations = {
        graph.tensors[each.outputs[0]].name.decode(): (
            kinds[model.operatorCodes[each.opcodeIndex].builtinCode],
            each,
        )
        for each in graph.operators
    }
    weighted = {
        name
        for name, (kind, each) in operations.items()
        if kind in _WITH_WEIGHTS and _kernel(model, each) in trunk
    }
    if not weighted:
        raise ValueError("no kernel of the trunk was found in the exported graph")
    inside = between(_consumers(operations), weighted)
    for name, (kind, _) in operations.items():
        if name in weighted or (kind in _IN_BETWEEN and name in inside):
            yield kind, name


def _kernel(model: Any, operation: Any) -> str | None:
    """The fingerprint of what an operation multiplies with; `None` for what is no constant."""
    data = model.buffers[model.subgraphs[0].tensors[operation.inputs[1]].buffer].data
    if data is None or not len(data):
        return None
    return fingerprint(np.frombuffer(bytes(data), np.float32))


def _consumers(operations: dict[str, tuple[str, Any]]) -> dict[str, list[str]]:
    readers: dict[int, list[str]] = {}
    for name, (_, each) in operations.items():
        for tensor in each.inputs:
            readers.setdefault(int(tensor), []).append(name)
    return {
        name: [reader for tensor in each.outputs for reader in readers.get(int(tensor), [])]
        for name, (_, each) in operations.items()
    }
