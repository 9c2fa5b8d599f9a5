"""int8 for ONNX: static, in QDQ form, a scale a channel, of the trunk alone."""

from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worker.export.formats import Films
from worker.export.trunk import between, fingerprint
from worker.inference.portable import INPUT

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
_ACTIVATIONS = ("Clip", "Relu", "Add")  # between two of those: else each is a way out and in again


def quantised(model: "ModelProto", trunk: Collection[str], films: Films) -> "ModelProto":
    """The model with the kernels of its trunk in int8, their scales from what real films cause.

    `trunk` are fingerprints, `films` (N, S, S). Raises ValueError where no kernel is found.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    nodes = _chosen(model, trunk)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            _Reader(films),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[*_WITH_WEIGHTS, *_ACTIVATIONS],
            nodes_to_quantize=nodes,
        )
        return onnx.load(path)


class _Reader:
    """Hands the films over one by one, as the quantiser asks for them."""

    def __init__(self, films: Films) -> None:
        self._films = iter(films)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        film = next(self._films, None)
        return None if film is None else {INPUT: film[None, None]}


def _chosen(model: "ModelProto", trunk: Collection[str]) -> list[str]:
    """Names of the nodes to quantise: those with kernels of the trunk, activations in between."""
    from onnx import numpy_helper

    kernels = {
        each.name
        for each in model.graph.initializer
        if len(each.dims) > 1 and fingerprint(numpy_helper.to_array(each)) in trunk
    }
    weighted = [
        node.name
        for node in model.graph.node
        if node.op_type in _WITH_WEIGHTS and kernels.intersection(node.input)
    ]
    if not weighted:
        raise ValueError("no kernel of the trunk was found in the exported graph")
    constants = {each.name for each in model.graph.initializer}
    inside = between(_consumers(model), weighted)
    activations = [node.name for node in _activations(model, constants) if node.name in inside]
    return weighted + activations


def _activations(model: "ModelProto", constants: set[str]) -> "Iterator[NodeProto]":
    """Activations and sums of two maps; not the sum with a bias, which int8 would spoil."""
    for node in model.graph.node:
        is_bias = node.op_type == "Add" and constants.intersection(node.input)
        if node.op_type in _ACTIVATIONS and not is_bias:
            yield node


def _consumers(model: "ModelProto") -> dict[str, list[str]]:
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    return {
        node.name: [reader for name in node.output for reader in readers.get(name, [])]
        for node in model.graph.node
    }
