"""Read and write weights: safetensors, held to a SHA-256, no pickle."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from models.errors import ModelError

_NET, _GUARD = "net.", "guard."


def write_weights(net: dict[str, Tensor], guard: dict[str, Tensor], path: Path) -> str:
    """Write a network's and its guard's tensors into one file; return the file's SHA-256."""
    tensors = {_NET + name: tensor for name, tensor in net.items()}
    tensors |= {_GUARD + name: tensor for name, tensor in guard.items()}
    data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_weights(path: Path, sha256: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read (network, guard) tensors.

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
    return _part(tensors, _NET), _part(tensors, _GUARD)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor.to(torch.float32)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
