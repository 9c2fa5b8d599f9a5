"""The numbers of a training, in one place; they go into the card."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters. An epoch draws as many films as there are, by class and domain in turn."""

    architecture: str = "mobilenet_v2"
    start: str = "imagenet"
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3
    warm_up: float = 0.1  # fraction of all steps
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    ema_decay: float = 0.997
    seed: int = 20
    size_px: int = 224
    low_percentile: float = 1.0
    high_percentile: float = 99.0
    mean: float = 0.449  # of ImageNet, over its three channels
    std: float = 0.226
