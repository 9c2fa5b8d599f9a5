"""Backbones as classifiers of grey films: torchvision's families and EfficientNet-Lite0.

Those that end in global average pooling and one linear layer have their Grad-CAM in closed form;
the others (a hidden layer in the head, a vision transformer) by gradient: see `models.explain`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softmax
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.efficientnet_lite import INPUT_MEAN, INPUT_STD, EfficientNetLite0
from models.errors import ModelError, UnknownModel
from models.torchvision_compat import torchvision_models

IMAGENET_MEAN, IMAGENET_STD = 0.449, 0.226  # over its three channels
_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("conv1", "norm2"))


@dataclass(frozen=True)
class Answer:
    """What one forward pass gives for N films.

    `logits` (N, 2); `last`, what the top works on: the last feature maps (N, C, h, w), or tokens
    (N, 1 + h·w, C); `depths`, the channel means at several depths, one (N, C_k) each: what the
    guard looks at.
    """

    logits: Tensor
    last: Tensor
    depths: tuple[Tensor, ...]


@dataclass(frozen=True)
class Family:
    """How to build one network, cut it into stages, and where the guard listens (`taps`).

    The first `stem` stages see edges only. `top` turns what the last stage gives into logits;
    `None` stands for global average pooling and the last linear layer. `mean` and `std` are of
    the start weights' input.
    """

    make: Callable[[int], nn.Module]  # takes the input's side in pixels
    stages: Callable[[Any], list[nn.Module]]
    taps: tuple[int, ...]
    stem: int
    top: Callable[[Any, Tensor], Tensor] | None = None
    mean: float = IMAGENET_MEAN
    std: float = IMAGENET_STD


class Classifier(nn.Module):
    """A network run stage by stage, taking grey films (N, 1, S, S) in [0, 1]."""

    def __init__(
        self, net: nn.Module, family: Family, size_px: int, mean: float, std: float
    ) -> None:
        super().__init__()
        self.net = net
        self.size_px = size_px
        self.dropout = nn.Dropout(0.2)
        self._cut, self._stages = family.stages, family.stages(net)
        self._taps, self._top = family.taps, family.top
        self._mean, self._std = mean, std
        self._stem, self._frozen = family.stem, 0
        self.gradient: nn.Module | None = None  # of the top, as operations: see `models.traced`

    def freeze_stem(self) -> None:
        """Keep the stem as it is while the rest is trained: weights and statistics."""
        self._frozen = self._stem
        for stage in self._stages[: self._stem]:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> "Classifier":
        """Switch between training and evaluation; frozen stages stay in evaluation."""
        super().train(mode)
        for stage in self._stages[: self._frozen]:
            stage.eval()
        return self

    @property
    def head(self) -> nn.Linear:
        """The last layer, (2, C)."""
        last = [module for module in self.net.modules() if isinstance(module, nn.Linear)][-1]
        return last

    @property
    def trunk(self) -> list[nn.Module]:
        """The stages behind the stem: what bears less precision best."""
        return self._stages[self._stem :]

    @property
    def is_closed_form(self) -> bool:
        """Whether the network ends in global average pooling and one linear layer."""
        return self._top is None

    @property
    def depth_sizes(self) -> tuple[int, ...]:
        """Channels of each depth: C_k of `Answer.depths`."""
        blank = torch.zeros(1, 1, self.size_px, self.size_px, device=self.head.weight.device)
        with torch.no_grad():
            return tuple(depth.shape[1] for depth in self.eval()(blank).depths)

    def folded(self) -> "Classifier":
        """A copy for inference that answers the same with less work: see `_fold`."""
        copied = copy.deepcopy(self).eval()
        _fold(copied.net)
        copied._stages = self._cut(copied.net)  # of what stands there now
        return copied

    def forward(self, films: Tensor) -> Answer:
        """Run the network. See `Answer` for the shapes."""
        x = ((films - self._mean) / self._std).expand(-1, 3, -1, -1)  # (N, 3, S, S)
        depths = []
        for index, stage in enumerate(self._stages):
            x = stage(x)
            if index in self._taps:
                depths.append(channel_means(x))  # (N, C_k)
        return Answer(self.top(x), x, (*depths, channel_means(x)))

    def top(self, last: Tensor) -> Tensor:
        """Logits (N, 2) of what the last stage gave."""
        if self._top is not None:
            return self._top(self.net, last)
        logits: Tensor = self.head(self.dropout(channel_means(last)))
        return logits


def channel_means(x: Tensor) -> Tensor:
    """Mean over places: of maps (N, C, h, w) or of tokens (N, T, C), (N, C)."""
    return x.mean(dim=(2, 3)) if x.ndim == 4 else x.mean(dim=1)


def _fold(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, where both stand in a row.

    Also in the blocks of ResNet and DenseNet, whose parts go by these names.
    """
    for child in module.children():
        _fold(child)
    parts = dict(module.named_children())
    row = pairwise(parts) if isinstance(module, nn.Sequential) else _PAIRS
    for before, name in row:
        convolution, norm = parts.get(before), parts.get(name)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, before, fuse_conv_bn_eval(convolution, norm))
            setattr(module, name, nn.Identity())


def _torchvision(name: str, **options: Any) -> Callable[[int], nn.Module]:
    def make(size_px: int) -> nn.Module:
        sized = {"image_size": size_px} if name.startswith("vit") else {}
        net: nn.Module = getattr(torchvision_models(), name)(num_classes=2, **sized, **options)
        return net

    return make


def _features(net: Any) -> list[nn.Module]:
    return list(net.features)


def _densenet(net: Any) -> list[nn.Module]:
    return [*net.features, nn.ReLU(inplace=False)]


def _resnet(net: Any) -> list[nn.Module]:
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return [stem, net.layer1, net.layer2, net.layer3, net.layer4]


def _convnext_top(net: Any, maps: Tensor) -> Tensor:
    """ConvNeXt, a normalisation before its last layer: (N, C, h, w) → (N, 2)."""
    logits: Tensor = net.classifier(channel_means(maps)[:, :, None, None])
    return logits


def _hidden_head(net: Any, maps: Tensor) -> Tensor:
    """MobileNetV3: (N, C, h, w) → (N, 2)."""
    logits: Tensor = net.classifier(channel_means(maps))
    return logits


class _Patches(nn.Module):
    """The first stage of a vision transformer: (N, 3, S, S) → tokens (N, 1 + (S/16)², C)."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self._parts = [net]  # in a list: its weights are the network's, not this stage's

    def forward(self, x: Tensor) -> Tensor:
        (net,) = self._parts
        patches = net._process_input(x)  # (N, T, C)
        first = net.class_token.expand(x.shape[0], -1, -1)
        tokens: Tensor = torch.cat([first, patches], dim=1) + net.encoder.pos_embedding
        return tokens


def _vit(net: Any) -> list[nn.Module]:
    """All but the last block: there only the class token is read, the patches through attention."""
    return [_Patches(net), *list(net.encoder.layers)[:-1]]


def _vit_top(net: Any, tokens: Tensor) -> Tensor:
    """The last block, of which only the class token is read, and the head: (N, T, C) → (N, 2)."""
    block = list(net.encoder.layers)[-1]
    token = tokens[:, 0] + _class_attention(block.self_attention, block.ln_1(tokens))  # (N, C)
    token = token + block.mlp(block.ln_2(token))
    logits: Tensor = net.heads(net.encoder.ln(token))
    return logits


def _class_attention(attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """What the class token gathers from all tokens, (N, T, C) → (N, C).

    In plain operations on matrices: torch's own cannot be traced with their gradient for any N.
    """
    films, _, channels = tokens.shape
    heads = attention.num_heads
    given = (tokens[:, :1], tokens, tokens)
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    query, key, value = (
        linear(each.reshape(-1, channels), weight, bias)
        .reshape(films, -1, heads, channels // heads)
        .transpose(1, 2)
        for each, weight, bias in zip(given, weights, biases, strict=True)
    )  # (N, heads, 1 or T, C / heads)
    shares = softmax(query @ key.transpose(2, 3) * (channels // heads) ** -0.5, dim=3)
    gathered: Tensor = attention.out_proj((shares @ value).reshape(films, channels))
    return gathered


FAMILIES: dict[str, Family] = {
    "mobilenet_v2": Family(_torchvision("mobilenet_v2"), _features, (3, 6, 13), 4),
    "efficientnet_lite0": Family(
        lambda _: EfficientNetLite0(2), _features, (2, 3, 5), 4, mean=INPUT_MEAN, std=INPUT_STD
    ),
    "mobilenet_v3_large": Family(
        _torchvision("mobilenet_v3_large"), _features, (3, 6, 12), 4, _hidden_head
    ),
    "efficientnet_b0": Family(_torchvision("efficientnet_b0"), _features, (2, 3, 5), 3),
    "resnet18": Family(_torchvision("resnet18"), _resnet, (1, 2, 3), 2),
    "resnet50": Family(_torchvision("resnet50"), _resnet, (1, 2, 3), 2),
    "densenet121": Family(_torchvision("densenet121"), _densenet, (4, 6, 8), 5),
    "convnext_tiny": Family(_torchvision("convnext_tiny"), _features, (1, 3, 5), 2, _convnext_top),
    "vit_b_16": Family(_torchvision("vit_b_16"), _vit, (3, 6, 9), 1, _vit_top),
}


def family_of(architecture: str) -> Family:
    """Look an architecture up.

    Raises UnknownModel for an unknown one, naming the known ones.
    """
    family = FAMILIES.get(architecture)
    if family is None:
        known = ", ".join(sorted(FAMILIES))
        raise UnknownModel(f"unknown architecture '{architecture}': known are {known}")
    return family


def build(architecture: str, size_px: int, mean: float, std: float) -> Classifier:
    """Build a two-output network with random weights for films of one size.

    `mean` and `std` normalise its input. Raises UnknownModel for an unknown architecture,
    ModelError for a size that it cannot take.
    """
    family = family_of(architecture)
    try:
        net = family.make(size_px)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ModelError(f"{architecture} cannot take films of {size_px} pixels") from error
    return Classifier(net, family, size_px, mean, std)
