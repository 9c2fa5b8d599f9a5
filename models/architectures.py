"""Backbones that end in global average pooling and one linear layer.

That ending makes Grad-CAM exact in closed form, see `worker.inference.explain`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.errors import UnknownModel
from models.torchvision_compat import torchvision_models


@dataclass(frozen=True)
class Answer:
    """What one forward pass gives for N films.

    `logits` (N, 2); `maps` (N, C, h, w), the last feature maps; `depths`, the channel means at
    several depths, one (N, C_k) each: what the guard looks at.
    """

    logits: Tensor
    maps: Tensor
    depths: tuple[Tensor, ...]


def _fold(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, where both stand in a row."""
    for child in module.children():
        _fold(child)
    if isinstance(module, nn.Sequential):
        for (before, convolution), (name, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, before, fuse_conv_bn_eval(convolution, norm))
                setattr(module, name, nn.Identity())


class Classifier(nn.Module):
    """A torchvision network run stage by stage, taking grey films (N, 1, S, S) in [0, 1]."""

    def __init__(self, net: nn.Module, family: "Family", mean: float, std: float) -> None:
        super().__init__()
        self.net = net
        self.dropout = nn.Dropout(0.2)
        self._stages = family.stages(net)
        self._taps = family.taps
        self._mean, self._std = mean, std

    @property
    def head(self) -> nn.Linear:
        """The last layer, (2, C)."""
        last = [module for module in self.net.modules() if isinstance(module, nn.Linear)][-1]
        return last

    @property
    def depth_channels(self) -> int:
        """Channels of all depths together: D of the guard's features."""
        size = 64
        with torch.no_grad():
            depths = self.eval()(torch.zeros(1, 1, size, size, device=self.head.weight.device))
        return sum(depth.shape[1] for depth in depths.depths)

    def folded(self) -> "Classifier":
        """A copy for inference that answers the same with less work: see `_fold`."""
        copied = copy.deepcopy(self).eval()
        _fold(copied.net)
        return copied

    def forward(self, films: Tensor) -> Answer:
        """Run the network. See `Answer` for the shapes."""
        x = ((films - self._mean) / self._std).expand(-1, 3, -1, -1)  # (N, 3, S, S)
        depths = []
        for index, stage in enumerate(self._stages):
            x = stage(x)
            if index in self._taps:
                depths.append(x.mean(dim=(2, 3)))  # (N, C_k)
        pooled = x.mean(dim=(2, 3))  # (N, C)
        return Answer(self.head(self.dropout(pooled)), x, (*depths, pooled))


@dataclass(frozen=True)
class Family:
    """How to build one torchvision family, cut it into stages, and where the guard listens."""

    build: str
    stages: Callable[[Any], list[nn.Module]]
    taps: tuple[int, ...]


def _features(net: Any) -> list[nn.Module]:
    return list(net.features)


def _densenet(net: Any) -> list[nn.Module]:
    return [*net.features, nn.ReLU(inplace=False)]


def _resnet(net: Any) -> list[nn.Module]:
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return [stem, net.layer1, net.layer2, net.layer3, net.layer4]


FAMILIES: dict[str, Family] = {
    "mobilenet_v2": Family("mobilenet_v2", _features, (3, 6, 13)),
    "efficientnet_b0": Family("efficientnet_b0", _features, (2, 3, 5)),
    "resnet18": Family("resnet18", _resnet, (1, 2, 3)),
    "resnet50": Family("resnet50", _resnet, (1, 2, 3)),
    "densenet121": Family("densenet121", _densenet, (4, 6, 8)),
}


def build(architecture: str, mean: float, std: float) -> Classifier:
    """Build a two-output network with random weights; `mean` and `std` of its input.

    Raises UnknownModel for an unknown architecture, naming the known ones.
    """
    family = FAMILIES.get(architecture)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnknownModel(f"unknown architecture '{architecture}': known are {known}")
    maker = cast(Callable[..., nn.Module], getattr(torchvision_models(), family.build))
    return Classifier(maker(num_classes=2), family, mean, std)
