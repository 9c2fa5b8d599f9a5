"""Gradients as operations, so that a network whose heat map needs one can be exported."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.architectures import Classifier
from models.ensemble import Ensemble
from models.explain import margins


def with_traced_gradients(network: Ensemble, size_px: int) -> Ensemble:
    """A copy that answers the same and differentiates nothing while it runs.

    Members in closed form need no gradient and stay as they are. Raises RuntimeError where torch
    cannot trace a top's backward pass.
    """
    copied = copy.deepcopy(network).eval()
    film = torch.rand(2, 1, size_px, size_px, generator=torch.Generator().manual_seed(0))
    for member in copied.members:
        if not member.is_closed_form:
            member.gradient = _traced(member, film)
    return copied


def _traced(member: Classifier, films: Tensor) -> nn.Module:
    """The gradient of the margin at what the top works on, in core ATen operations."""

    def margin(last: Tensor) -> Tensor:
        return margins(member.top(last)).sum()

    with torch.no_grad():
        last = member(films).last
    table: dict[Any, Any] = {
        **core_aten_decompositions(),
        **get_decompositions([torch.ops.aten.native_layer_norm]),  # OpenVINO knows one output of it
        torch.ops.aten.var_mean.correction: _var_mean,  # a part of that, and not in core ATen
    }
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention's backward is one opaque operation
        traced = make_fx(
            torch.func.grad(margin),
            decomposition_table=table,
            tracing_mode="symbolic",  # any number of films
            _allow_non_fake_inputs=True,  # the weights
        )(last)
    return _OfContiguous(traced)


def _var_mean(
    x: Tensor, dim: list[int] | None = None, *, correction: float, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    var: Tensor = torch.ops.aten.var.correction(x, dim, correction=correction, keepdim=keepdim)
    return var, torch.ops.aten.mean.dim(x, dim, keepdim)


class _OfContiguous(nn.Module):
    """Traced operations, given numbers laid out as those that they were traced with."""

    def __init__(self, traced: nn.Module) -> None:
        super().__init__()
        self._traced = traced

    def forward(self, last: Tensor) -> Tensor:
        gradient: Tensor = self._traced(last.contiguous())
        return gradient
