"""What was measured on held-out domains, as the card tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from models.cards import Calibration, DecisionConstants
from worker.train.calibrate import SENSITIVITY, SPECIFICITY, domain_metrics
from worker.train.dataset import TrainingSet
from worker.train.guard_fit import Judged
from worker.train.shortcuts import aspect_dependence, shortcut_aucs
from worker.train.validate import Fold, Mask, Scores, block

_RATES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "answered": "Answered",
    "accuracy_answered": "Accuracy where answered",
}


def measured(
    films: TrainingSet,
    held: Sequence[Fold],
    held_out: Mapping[str, Scores],
    judged: Sequence[Judged],
    calibration: Calibration,
    decision: DecisionConstants,
) -> dict[str, Any]:
    """Every held-out domain, its parts, shortcuts and guard; pages show the `headline`.

    `held_out` goes by the names of the folds, `judged` by their order. The headline is the
    worst of the domains that the constants were chosen on.
    """
    domains = {
        fold.name: {
            **domain_metrics(held_out[fold.name], calibration, decision),
            "constants_chosen_here": fold.chooses,
            "auc_of_parts": _parts(films, fold, held_out[fold.name]),
        }
        for fold in held
    }
    chosen = [domains[fold.name] for fold in held if fold.chooses]
    headline = {"AUC, worst held-out source": f"{min(d['auc'] for d in chosen):.3f}"}
    for key, title in _RATES.items():
        values = [domain[key] for domain in chosen]
        worst = "no answer" if None in values else f"{min(values):.1%}"
        headline[f"{title}, worst held-out source"] = worst
    return {
        "headline": headline,
        "wanted": {"sensitivity": SENSITIVITY, "specificity": SPECIFICITY},
        "held_out_domains": domains,
        "shortcut_auc": shortcut_aucs(films, held),
        "margin_over_aspect_correlation": aspect_dependence(films, held, held_out),
        "guard_refused": {
            fold.name: each.refused_shares() for fold, each in zip(held, judged, strict=True)
        },
    }


def _parts(films: TrainingSet, fold: Fold, scores: Scores) -> dict[str, float]:
    """AUC of parts of a held-out domain: kinds of positive films, blocks of numbers, folders."""
    held = films.subset(fold.held_out)
    blocks = np.array([block(film.group) for film in held.films])
    folders = np.array([film.path.parent.parent.name for film in held.films])
    normal, negative = scores.targets == 0, films.labels[0].lower()
    parts: dict[str, Mask] = {
        f"{kind} against all {negative}": normal | (held.domains == kind)
        for kind in sorted(set(held.domains[~normal]))
    }
    parts |= {f"{negative} of block {b} against all": ~normal | (blocks == b) for b in (0, 1)}
    parts |= {f"folder {name}": folders == name for name in sorted(set(folders))}
    aucs = {name: _auc(scores, part) for name, part in parts.items()}
    return {name: auc for name, auc in aucs.items() if auc is not None}


def _auc(scores: Scores, part: NDArray[np.bool_]) -> float | None:
    targets = scores.targets[part]
    if len(set(targets)) < 2:
        return None
    return round(float(roc_auc_score(targets, scores.margins[part])), 4)
