"""ExecuTorch: one .pte for phones, its networks run by XNNPACK; one film a pass."""

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from models.cards import Card
from worker.export.formats import Contents, Films
from worker.export.quiet import quiet
from worker.export.trunk import trunk_weights
from worker.inference.portable import Answers, Portable

if TYPE_CHECKING:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from torch.export import ExportedProgram


def convert(network: Portable, card: Card, calibration: Films | None) -> Contents:
    """Convert to float32, or to int8 where there are films to calibrate on.

    XNNPACK runs what works on maps and tokens. What works on vectors, the guard above all, stays
    with ExecuTorch's own kernels, and in float32.
    """
    from executorch.exir import to_edge_transform_and_lower

    film = torch.rand(1, 1, card.input.size_px, card.input.size_px)
    with torch.no_grad():
        program = torch.export.export(network, (film,), strict=False)
        if calibration is not None:
            from worker.export.executorch_int8 import quantised

            program = quantised(program, trunk_weights(network), film, calibration)
        partitioner = _partitioner(int8=calibration is not None)
        lowered = to_edge_transform_and_lower(program, partitioner=[partitioner])
        return (bytes(lowered.to_executorch().buffer),)


def open_runtime(contents: Contents, threads: int) -> "ExecutorchRuntime":
    """Open a .pte by ExecuTorch's own runtime, on the CPU."""
    return ExecutorchRuntime(contents[0])


class ExecutorchRuntime:
    """A .pte in ExecuTorch, on one core. Safe from several threads; one at a time is served.

    ExecuTorch has one pool of threads for the whole process.
    """

    def __init__(self, content: bytes) -> None:
        with quiet():  # importing it warns that it may change
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime
        portable_lib._unsafe_reset_threadpool(1)
        self._program = Runtime.get().load_program(content)
        self._method = self._program.load_method("forward")
        self._one_at_a_time = threading.Lock()

    def __call__(self, films: Films) -> Answers:
        """Answer N prepared films, (N, S, S)."""
        answers = [self._one(film) for film in torch.from_numpy(np.ascontiguousarray(films))]
        return Answers(*(np.concatenate(column) for column in zip(*answers, strict=True)))

    def _one(self, film: Tensor) -> list[Any]:
        with self._one_at_a_time:
            found = self._method.execute([film[None, None]])
            return [each.numpy().copy() for each in found]


def works_on_maps(node: Node) -> bool:
    """Whether a node gives maps (N, C, h, w) or tokens (N, T, C)."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, (tuple, list)) else value
    return isinstance(first, Tensor) and first.ndim >= 3


def _partitioner(*, int8: bool) -> "XnnpackPartitioner":
    """What says which operations XNNPACK runs: all that it can, on maps and tokens.

    With the guard's vectors among them, ExecuTorch 1.5 makes parts that wait for each other. With
    a product behind int8, such as the heat map, it makes parts whose outputs have no room.
    """
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    def on_maps(config: Any) -> Any:
        class OnMaps(config):  # type: ignore[misc]
            def check_constraints(self, node: Node, program: "ExportedProgram") -> bool:
                return works_on_maps(node) and bool(super().check_constraints(node, program))

        return OnMaps

    taken = [each for each in ALL_PARTITIONER_CONFIGS if not int8 or "mul." not in each.target_name]
    return XnnpackPartitioner([on_maps(config) for config in taken])
