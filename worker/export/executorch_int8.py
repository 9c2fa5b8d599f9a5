"""int8 for ExecuTorch: static, a scale a channel, of the trunk alone, in PyTorch 2's own way."""

from collections.abc import Collection, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from worker.export.executorch import works_on_maps
from worker.export.formats import Films
from worker.export.trunk import between, fingerprint

if TYPE_CHECKING:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torch.export import ExportedProgram

_WITH_WEIGHTS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
_NEVER = (torch.ops.aten.mul.Tensor,)  # gates: XNNPACK has no room for what follows them


def quantised(
    program: "ExportedProgram", trunk: Collection[str], film: Tensor, films: Films
) -> "ExportedProgram":
    """The program with the kernels of its trunk in int8, their scales from what real films cause.

    `trunk` are fingerprints, `film` is an input (1, 1, S, S), `films` (N, S, S). Raises ValueError
    where no kernel is found.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    watched = prepare_pt2e(program.module(), _quantizer(trunk))
    for each in torch.from_numpy(films):
        watched(each[None, None])
    return torch.export.export(convert_pt2e(watched), (film,), strict=False)


def _quantizer(trunk: Collection[str]) -> "XNNPACKQuantizer":
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

    class OfTrunk(xnnpack_quantizer.XNNPACKQuantizer):  # type: ignore[misc]
        def transform_for_annotation(self, model: GraphModule) -> GraphModule:
            """Scalars stay scalars: as tensors XNNPACK does not take them."""
            return model

        def annotate(self, model: GraphModule) -> GraphModule:
            """Without what spreads to operations behind those that were chosen."""
            chosen = set(_chosen(model, trunk))
            self.set_filter_function(lambda node: _is_data(node) or node in chosen)
            annotated: GraphModule = super().annotate(model)
            for node in annotated.graph.nodes:
                if not _is_data(node) and node not in chosen:
                    node.meta.pop(Q_ANNOTATION_KEY, None)
            return annotated

    config = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    return OfTrunk().set_global(config)


def _is_data(node: Node) -> bool:
    """Whether a node is a weight, an input or an output: these follow their operations."""
    return node.op != "call_function"


def _chosen(model: GraphModule, trunk: Collection[str]) -> Iterator[Node]:
    """Nodes to quantise: those with kernels of the trunk, and what lies between or right behind."""
    nodes = [node for node in model.graph.nodes if not _is_data(node)]
    weighted = {node for node in nodes if _kernel(model, node) in trunk}
    if not weighted:
        raise ValueError("no kernel of the trunk was found in the exported graph")
    consumers = {node.name: [user.name for user in node.users] for node in nodes}
    inside = between(consumers, {node.name for node in weighted})
    for node in nodes:
        near = node.name in inside or not weighted.isdisjoint(node.all_input_nodes)
        if near and works_on_maps(node) and node.target not in _NEVER:
            yield node


def _kernel(model: GraphModule, node: Node) -> str | None:
    """The fingerprint of what a node multiplies with."""
    if node.target not in _WITH_WEIGHTS:
        return None
    weight = node.args[1]
    if not isinstance(weight, Node) or weight.op != "get_attr":
        return None
    return fingerprint(attrgetter(str(weight.target))(model).detach().numpy())
