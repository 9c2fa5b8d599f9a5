"""Whether a map depends on what the network has learnt.

The parameter randomisation of Adebayo et al. 2018, "Sanity checks for saliency maps".
Weights are drawn anew, first the head's, then stage after stage from the last to the first. A map
that stays the same shows the film's edges and not the network's reasons.
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from bench.attribution import Maps, members
from models.architectures import Classifier
from models.registry import LoadedModel

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)  # of the stages, beside the head


def cascade(model: LoadedModel, films: Maps, seed: int) -> Iterator[tuple[float, LoadedModel]]:
    """Copies of a model with ever more of its weights drawn anew; see `SHARES`."""
    for share in SHARES:
        randomised = copy.deepcopy(model)
        torch.manual_seed(seed)
        for classifier in members(randomised):
            randomise(classifier, share, films)
        yield share, randomised


def randomise(classifier: Classifier, share: float, films: Maps) -> None:
    """Draw the head and the last `share` of the stages anew, in place.

    Batch normalisations among them measure these films: with the statistics of other weights, or
    none, no signal would pass and the maps would be noise for the wrong reason.
    """
    stages = classifier._stages
    count = round(share * len(stages)) if share in (0, 1) else max(1, round(share * len(stages)))
    fresh = [classifier.head, *(stages[-count:] if count else [])]
    _draw(fresh)
    norms = [m for stage in fresh for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over what it sees from now on
        norm.train()
    with torch.no_grad():
        classifier(torch.from_numpy(films)[:, None])
    classifier.eval()


def _draw(stages: Sequence[nn.Module]) -> None:
    for stage in stages:
        for module in stage.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


def spearman(ours: Maps, others: Maps) -> NDArray[np.float64]:
    """Rank correlation of two maps of each film, (N, h, w) twice → (N,)."""
    a, b = (_standard(rankdata(m.reshape(len(m), -1), axis=1)) for m in (ours, others))
    return np.asarray((a * b).mean(axis=1), np.float64)


def _standard(rank: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rank - rank.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-12), np.float64)
