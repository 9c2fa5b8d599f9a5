"""Read and write weights: safetensors, held to a SHA-256, no pickle."""

import errno
import hashlib
import os
import stat
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

    Raises ModelError when the file is missing, a link or no regular file, has another SHA-256, is
    not safetensors, or holds a number that is not finite.
    """
    data = read_verified(path, sha256)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: the tensor '{name}' holds numbers that are not finite: a score would "
                "mean nothing, and the guard would let everything pass; train the model again"
            )
    nets = [_part(tensors, _prefix(number)) for number in range(count)]
    return nets, _part(tensors, _GUARD)


def read_verified(path: Path, sha256: str) -> bytes:
    """The bytes of a regular file that is no link, if they have this SHA-256; else ModelError."""
    data = _read(path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path} has SHA-256 {found[:12]}…, its card says {sha256[:12]}…: the file is damaged "
            "or was exchanged; install the model again, thresholds belong to one exact file"
        )
    return data


def _read(path: Path) -> bytes:
    """The bytes that are hashed and loaded, read once: nobody can exchange them in between."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ModelError(f"the weights {path} are no regular file: put one there")
            return file.read()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ModelError(f"the weights {path} are a link: put the file itself there") from error
        raise ModelError(f"cannot read the weights {path}: {error.strerror}") from error


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
