"""What tells the classes apart without looking at lungs, measured on the model's own folds."""

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from worker.train.dataset import TrainingSet
from worker.train.validate import Fold, Mask, Scores

_THUMBNAIL_PX = 16

Features = NDArray[np.float64]


def shortcut_aucs(films: TrainingSet, folds: Iterable[Fold]) -> dict[str, dict[str, float]]:
    """AUC on each held-out domain of a logistic regression on a shortcut: shortcut → fold → AUC.

    Shortcuts are 16 × 16 thumbnails and, of films that are no squares already, width / height.
    """
    chosen = list(folds)
    shaped = films.aspects != 1
    ratio = np.log(films.aspects)[:, None]
    found = {
        "thumbnail_16px": {f.name: _auc(films, _thumbnails(films), f.trained, f.held_out)
                           for f in chosen},
        "aspect_ratio": {f.name: _auc(films, ratio, f.trained & shaped, f.held_out & shaped)
                         for f in chosen},
    }  # fmt: skip
    return {
        name: {fold: auc for fold, auc in aucs.items() if auc is not None}
        for name, aucs in found.items()
    }


def aspect_dependence(
    films: TrainingSet, folds: Iterable[Fold], held_out: Mapping[str, Scores]
) -> dict[str, dict[str, float]]:
    """Rank correlation (Spearman) of the model's margin with width / height within each class.

    Of held-out films that are no squares already: fold → class → correlation. Near 0 the model
    does not use the shape, whatever the shape would tell.
    """
    found: dict[str, dict[str, float]] = {}
    for fold in folds:
        scores, aspects = held_out[fold.name], films.aspects[fold.held_out]
        for target, name in enumerate(films.labels):
            of_class = (scores.targets == target) & (aspects != 1)
            if of_class.sum() > 2 and np.ptp(aspects[of_class]) > 0:
                correlation = spearmanr(scores.margins[of_class], aspects[of_class]).statistic
                found.setdefault(fold.name, {})[name] = round(float(correlation), 3)
    return found


def _thumbnails(films: TrainingSet) -> Features:
    small = [
        cv2.resize(film, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA).ravel()
        for film in films.pixels
    ]
    return np.stack(small).astype(np.float64) / 255


def _auc(films: TrainingSet, features: Features, trained: Mask, held_out: Mask) -> float | None:
    """AUC on the held-out films; `None` where a side lacks a class."""
    targets = films.targets
    if len(set(targets[trained])) < 2 or len(set(targets[held_out])) < 2:
        return None
    model = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
    model.fit(features[trained], targets[trained])
    margins = model.decision_function(features[held_out])
    return round(float(roc_auc_score(targets[held_out], margins)), 4)
