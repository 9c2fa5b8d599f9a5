"""Where the network found its evidence: Grad-CAM, in closed form where the network allows it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.architectures import Answer, Classifier


@dataclass(frozen=True)
class Explained:
    """Answers with their evidence for N films.

    `margins` (N,), second logit − first logit; `evidence` (N, h, w), each cell's part in the
    margin; `depths` as in `Answer`.
    """

    margins: Tensor
    evidence: Tensor
    depths: tuple[Tensor, ...]


def explain(classifier: Classifier, films: Tensor) -> Explained:
    """Run the network on (N, 1, S, S) films and explain its margins."""
    answer = classifier(films)
    evidence = closed_form if classifier.is_closed_form else by_gradient
    return Explained(margins(answer.logits), evidence(classifier, answer), answer.depths)


def margins(logits: Tensor) -> Tensor:
    """Second logit − first logit, (N, 2) → (N,) float32."""
    return logits[:, 1].float() - logits[:, 0].float()


def closed_form(classifier: Classifier, answer: Answer) -> Tensor:
    """Evidence of a network that ends in global average pooling and one linear layer, (N, h, w).

    The mean over the cells plus the difference of the biases is the margin: nothing is lost and
    nothing is rescaled per film. Up to the factor h × w and the final ReLU it is Grad-CAM of the
    margin (Selvaraju et al. 2017; Zhou et al. 2016 for this case).
    """
    weight = classifier.head.weight
    direction = (weight[1] - weight[0]).to(answer.last.dtype)  # (C,)
    return (answer.last * direction[None, :, None, None]).sum(dim=1).float()


def by_gradient(classifier: Classifier, answer: Answer) -> Tensor:
    """Grad-CAM of the margin times h × w, (N, h, w): the scale of `closed_form`, without its sum.

    For a vision transformer over its patch tokens, as they enter the last block.
    """
    gradient = (classifier.gradient or _gradient_of(classifier))(answer.last)
    maps, slopes = _grid(answer.last.detach()), _grid(gradient)  # (N, C, h, w)
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    cells = maps.shape[2] * maps.shape[3]
    return cells * (maps * weights).sum(dim=1).float()


def _gradient_of(classifier: Classifier) -> Callable[[Tensor], Tensor]:
    """What gives the margin's slope at each place of what the top works on."""

    def gradient(given: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            last = given.detach().clone().requires_grad_()
            (found,) = torch.autograd.grad(margins(classifier.top(last)).sum(), last)
            return found

    return gradient


def _grid(x: Tensor) -> Tensor:
    """Patch tokens (N, 1 + h·w, C) as maps (N, C, h, w); maps stay as they are."""
    if x.ndim == 4:
        return x
    patches = x[:, 1:].transpose(1, 2)  # (N, C, h·w); the first is the class token
    side = round(patches.shape[2] ** 0.5)
    return patches.reshape(*patches.shape[:2], side, side)
