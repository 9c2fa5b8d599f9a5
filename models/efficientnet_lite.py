"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

Tan and Le, EfficientNet (ICML 2019), in the form that its authors published for phones in 2020;
torchvision has none. Batch normalisation and padding are TensorFlow's, so that weights trained
there mean the same here.
"""

import torch
from torch import Tensor, nn

INPUT_MEAN, INPUT_STD = 127 / 255, 128 / 255  # of the published weights: (x − 127) / 128

# expansion, output channels, blocks, stride of the first, kernel
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _TOP = 32, 1280


class EfficientNetLite0(nn.Module):
    """The network: `features` (N, 3, S, S) → (N, 1280, S/32, S/32), then pooling and `classifier`.

    S is a multiple of 32: other sizes would be padded differently than in TensorFlow.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        stages: list[nn.Module] = [_convolution(3, _STEM, 3, stride=2)]
        channels = _STEM
        for expansion, out, blocks, stride, kernel in _STAGES:
            first = _Block(channels, out, expansion, kernel, stride)
            rest = [_Block(out, out, expansion, kernel, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels = out
        stages.append(_convolution(channels, _TOP, 1))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Linear(_TOP, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify: (N, 3, S, S) → (N, num_classes)."""
        pooled: Tensor = self.features(x).mean(dim=(2, 3))  # (N, 1280)
        logits: Tensor = self.classifier(pooled)
        return logits


class _Block(nn.Module):
    """Expand, filter each channel, project; the input is added where shapes allow it."""

    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        expand = [_convolution(channels, wide, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            _convolution(wide, wide, kernel, stride=stride, groups=wide),
            nn.Sequential(nn.Conv2d(wide, out, 1, bias=False), _norm(out)),
        )
        self._adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return torch.add(x, y) if self._adds else y


def _convolution(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6; padded as TensorFlow's SAME pads even sizes."""
    both = kernel - stride
    low, high = both // 2, both - both // 2
    padding = [] if low == high else [nn.ZeroPad2d((low, high, low, high))]
    inside = low if low == high else 0
    return nn.Sequential(
        *padding,
        nn.Conv2d(channels, out, kernel, stride, inside, groups=groups, bias=False),
        _norm(out),
        nn.ReLU6(inplace=True),
    )


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
