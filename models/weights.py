"""Read and write weights: safetensors, held to a SHA-256, no pickle."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.errors import ModelError

Tensors = dict[str, Tensor]

_GUARD = "guard."


def write_weights(nets: Sequence[Tensors], guard: Tensors, path: Path) -> str:
    """Write the tensors of networks and guard into one file; return the file's SHA-256.

    Names are those of each network's `state_dict` after `net.`, `net2.`, `net3.` …, in the card's
    order, and those of the guard after `guard.`.
    """
    tensors = {_GUARD + name: tensor for name, tensor in guard.items()}
    for number, net in enumerate(nets):
        tensors |= {_prefix(number) + name: tensor for name, tensor in net.items()}
    data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_weights(path: Path, sha256: str, count: int) -> tuple[list[Tensors], Tensors]:
    """Read the tensors of `count` networks, and of the guard.

    Raises ModelError when the file is missing, is not safetensors, or has another SHA-256.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the weights {path}: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path} has SHA-256 {found[:12]}…, its card says {sha256[:12]}…: the file is damaged "
            "or was exchanged; install the model again, thresholds belong to one exact file"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    nets = [_part(tensors, _prefix(number)) for number in range(count)]
    return nets, _part(tensors, _GUARD)


def _prefix(number: int) -> str:
    return "net." if number == 0 else f"net{number + 1}."


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {
        name.removeprefix(prefix): tensor.to(torch.float32)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
