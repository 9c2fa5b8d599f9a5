"""Convolutions with their activation in one step, by the oneDNN inside torch, on CPUs.

Eagerly, torch writes a convolution's output to memory and reads it again for the activation, lays
its weights out anew for each pass, and takes a slower way for 1 × 1 kernels on one thread. The
operators used here are those that torch's own compiler puts into compiled CPU networks
(`torch._inductor`). They are not documented: they are used only where they are there and answer as
the network itself does.
"""

import copy
import logging
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.ensemble import Ensemble

log = logging.getLogger(__name__)

_TOLERANCE = 1e-4  # of the largest value; oneDNN sums in another order: 1e-6 was seen
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.ReLU: ("relu", []),
    nn.Identity: ("none", []),
}


def fused(network: Ensemble, size_px: int) -> Ensemble:
    """The folded float32 network with fused convolutions; itself where that cannot be had."""
    film = torch.rand(1, 1, size_px, size_px, generator=torch.Generator().manual_seed(0))
    film = film.contiguous(memory_format=torch.channels_last)
    try:
        made = copy.deepcopy(network)
        with torch.inference_mode():
            for member in made.members:
                _fuse(member.net)
            pairs = zip(_parts(network(film)), _parts(made(film)), strict=True)
            if all(_alike(one, other) for one, other in pairs):
                return made
        log.warning("convolutions are not fused: they answered otherwise")
    except (AttributeError, RuntimeError) as error:  # NotImplementedError among them
        log.info("convolutions are not fused: %s", type(error).__name__)
    return network


class _Convolution(nn.Module):
    """A convolution and its activation."""

    def __init__(self, convolution: nn.Conv2d, activation: str, scalars: list[float]) -> None:
        super().__init__()
        self._place = (
            convolution.padding,
            convolution.stride,
            convolution.dilation,
            convolution.groups,
        )
        self._activation = (activation, scalars, "")
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            convolution.weight.detach(), *self._place
        )
        self._bias = convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._place, *self._activation
        )
        return output


def _fuse(module: nn.Module) -> None:
    """Fuse in place: each convolution with the activation that stands right after it in a row."""
    for child in module.children():
        _fuse(child)
    if isinstance(module, nn.Sequential):
        row = [(name, each) for name, each in module.named_children() if not _is_folded(each)]
        for (name, each), (after, activation) in pairwise([*row, ("", nn.Identity())]):
            if not isinstance(each, nn.Conv2d) or not _can_be_fused(each):
                continue
            how = _ACTIVATIONS.get(type(activation))
            setattr(module, name, _Convolution(each, *(how or _ACTIVATIONS[nn.Identity])))
            if how and after:
                setattr(module, after, nn.Identity())


def _is_folded(module: nn.Module) -> bool:
    """Whether a batch normalisation stood here, which was folded into the convolution before."""
    return type(module) is nn.Identity


def _can_be_fused(convolution: nn.Conv2d) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


def _parts(answer: Any) -> list[Tensor]:
    return [answer.margins, answer.evidence, *answer.depths]


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=_TOLERANCE * max(1.0, float(one.abs().max())))
