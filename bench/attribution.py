"""Heat maps of the same films by several methods: ours, two other libraries', and two controls.

The only place in the bench that knows how a model is built (`members`); the rest asks the engine.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.architectures import Classifier
from models.registry import LoadedModel
from models.torchvision_compat import torchvision_models
from worker.inference.engine import Engine
from worker.report.overlay import heat_png

Maps = NDArray[np.float32]

_BATCH = 16


def members(model: LoadedModel) -> list[Classifier]:
    """The networks whose mean margin is the model's."""
    return list(model.network.members)


class Margin(nn.Module):
    """A model as other libraries see it: (N, 1, S, S) → (N, 1), PNEUMONIA − NORMAL logit.

    A copy whose gradients begin at the last feature maps: what lies before costs time for nothing.
    """

    def __init__(self, classifiers: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(copy.deepcopy(list(classifiers))).requires_grad_(False)
        for layer in self.layers:
            layer.register_forward_hook(_begin_gradients)

    @property
    def layers(self) -> list[nn.Module]:
        """What gives the last feature maps, per member."""
        return [member._stages[-1] for member in self.members]

    def forward(self, films: Tensor) -> Tensor:
        """Mean margin of the members."""
        logits = torch.stack([member(films).logits for member in self.members]).mean(dim=0)
        return logits[:, 1:] - logits[:, :1]


def _begin_gradients(_layer: nn.Module, _inputs: object, maps: Tensor) -> None:
    if torch.is_grad_enabled():
        maps.requires_grad_()


@dataclass(frozen=True)
class Heat:
    """N maps over the whole film: `order` (N, S, S) ranks pixels; `heat` (N, S, S) ≥ 0 is shown."""

    order: Maps
    heat: Maps


def from_grid(grids: Maps, side: int) -> Heat:
    """Signed grids (N, h, w) drawn over the film as the report draws them."""
    order = [cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC) for grid in grids]
    return Heat(np.stack(order), np.stack([_overlay(grid, side) for grid in grids]))


def _overlay(grid: Maps, side: int) -> Maps:
    """The opacity of the report's overlay, on a scale that cuts nothing off."""
    png = np.frombuffer(heat_png(grid, max(float(grid.max()), 1e-6), side), np.uint8)
    rgba = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    return np.asarray(rgba[..., 3], np.float32)


def log_odds(engine: Engine, films: Maps) -> NDArray[np.float64]:
    """Calibrated log-odds of PNEUMONIA, (N,), from (N, S, S)."""
    parts = [engine.predict(films[at : at + 64]) for at in range(0, len(films), 64)]
    p = np.array([each.probability for part in parts for each in part], np.float64)
    p = p.clip(1e-15, 1 - 1e-15)
    return np.asarray(np.log(p / (1 - p)), np.float64)


def our_grids(engine: Engine, films: Maps) -> Maps:
    """The evidence that the worker stores, (N, h, w)."""
    parts = [engine.predict(films[at : at + 64]) for at in range(0, len(films), 64)]
    return np.stack([each.evidence for part in parts for each in part])


def grad_cam_grids(
    margin: Margin, films: Maps, reshape: Callable[[Tensor], Tensor] | None = None
) -> Maps:
    """pytorch-grad-cam's GradCAM of the margin, × cells, before its ReLU and scaling, (N, h, w).

    `reshape` turns the tokens of a vision transformer into maps.
    """
    torchvision_models()  # pytorch-grad-cam imports torchvision, which this makes possible
    from pytorch_grad_cam import GradCAM

    def grid(layer: nn.Module, batch: Tensor) -> Maps:
        targets = _targets(batch)
        with GradCAM(margin, [layer], reshape_transform=reshape) as cam:
            cam(batch, targets)
            kept = cam.activations_and_grads
            found = cam.get_cam_image(
                batch, layer, targets, kept.activations[0].numpy(), kept.gradients[0].numpy()
            )
        return np.asarray(found * found[0].size, np.float32)

    return _summed(margin, films, grid)


def captum_grids(margin: Margin, films: Maps) -> Maps:
    """Captum's LayerGradCam of the margin, × cells, (N, h, w)."""
    from captum.attr import LayerGradCam

    def grid(layer: nn.Module, batch: Tensor) -> Maps:
        found = LayerGradCam(margin, layer).attribute(batch, target=0).detach()[:, 0]
        return np.asarray(found.numpy() * found[0].numel(), np.float32)

    return _summed(margin, films, grid)


def _summed(margin: Margin, films: Maps, grid: Callable[[nn.Module, Tensor], Maps]) -> Maps:
    """The sum of a method's maps over the members' last layers: the gradient is of their mean."""
    grids = [np.sum([grid(layer, b) for layer in margin.layers], axis=0) for b in _batches(films)]
    return np.concatenate(grids)


def library_cam(margin: Margin, films: Maps, name: str) -> Heat:
    """A map of pytorch-grad-cam exactly as it gives it: without negatives, scaled per film."""
    torchvision_models()
    import pytorch_grad_cam

    with getattr(pytorch_grad_cam, name)(margin, margin.layers) as cam:
        maps = np.concatenate([cam(batch, _targets(batch)) for batch in _batches(films)])
    return Heat(maps, maps)


def occlusion_grids(engine: Engine, films: Maps, replaced: Maps, cells: int) -> Maps:
    """Captum's Occlusion: what the log-odds lose when one cell is replaced, (N, cells, cells)."""
    from captum.attr import Occlusion

    def answers(batch: Tensor) -> Tensor:
        return torch.from_numpy(log_odds(engine, batch[:, 0].numpy()))

    size, grids = films.shape[1] // cells, []
    for batch, instead in zip(_batches(films), _batches(replaced), strict=True):
        lost = Occlusion(answers).attribute(
            batch,
            sliding_window_shapes=(1, size, size),
            strides=(1, size, size),
            baselines=instead,
            perturbations_per_eval=4,
        )
        grids.append(lost[:, 0, size // 2 :: size, size // 2 :: size].numpy())
    return np.concatenate(grids).astype(np.float32)


def mean_of_others(grids: Maps, groups: NDArray[np.str_]) -> Maps:
    """For each film the mean map of the other patients' films: right on average, blind to it."""
    return np.stack([grids[groups != group].mean(axis=0) for group in groups])


def random_grids(like: Maps, rng: np.random.Generator) -> Maps:
    """Grids of the same shape that know nothing."""
    return rng.standard_normal(like.shape).astype(np.float32)


def _batches(films: Maps) -> list[Tensor]:
    tensor = torch.from_numpy(np.ascontiguousarray(films))[:, None]  # (N, 1, S, S)
    return list(tensor.split(_BATCH))


def _targets(batch: Tensor) -> list[Callable[..., Tensor]]:
    from pytorch_grad_cam.utils.model_targets import RawScoresOutputTarget

    return [RawScoresOutputTarget() for _ in batch]
