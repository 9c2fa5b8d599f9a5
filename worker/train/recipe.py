"""The numbers of a training, in one place; they go into the card."""

from dataclasses import dataclass

from models.architectures import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one network. An epoch draws as many films as there are.

    Films grow while the network learns: `first_size_px` in the first third of the epochs, halfway
    in the second, `size_px` in the last (progressive learning, Tan and Le, ICML 2021). With
    `freeze_stem` the stem of a network that starts from published weights stays as it is.
    """

    architecture: str = "mobilenet_v2"
    start: str = "imagenet"
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3
    warm_up: float = 0.1  # fraction of all steps
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    ema_decay: float = 0.997
    outside_share: float = 0.1  # films of another population, to a film of this one
    outside_weight: float = 0.3  # of telling them apart in the loss
    seed: int = 20
    freeze_stem: bool = True
    first_size_px: int = 128
    size_px: int = 224
    low_percentile: float = 1.0
    high_percentile: float = 99.0
    mean: float = IMAGENET_MEAN
    std: float = IMAGENET_STD

    def size_of(self, epoch: int) -> int:
        """Side of the films of an epoch, counted from 0; a multiple of 32, as networks like it."""
        if epoch >= self.epochs - max(1, self.epochs // 3):
            return self.size_px
        grown = 3 * epoch // self.epochs / 2  # 0 or one half
        size = self.first_size_px + (self.size_px - self.first_size_px) * grown
        return max(32, round(size / 32) * 32)
