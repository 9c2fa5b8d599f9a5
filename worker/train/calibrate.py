"""From margins on held-out domains to probabilities, a threshold and an abstention band."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.cards import Calibration, DecisionConstants
from worker.errors import NothingLearned
from worker.train.validate import Scores

_MOST_ABSTAINED = 0.06  # of the films of any held-out domain
_GRID = np.linspace(-6, 6, 241)  # calibrated log-odds


def calibrate(held_out: Mapping[str, Scores]) -> Calibration:
    """Platt scaling (Platt 1999) over all held-out domains, each class of each counting the same.

    Probabilities are therefore those of a population in which every second film shows pneumonia.
    Raises NothingLearned when higher margins do not mean pneumonia.
    """
    margins = np.concatenate([scores.margins for scores in held_out.values()])
    targets = np.concatenate([scores.targets for scores in held_out.values()])
    weights = np.concatenate([_balanced(scores.targets) for scores in held_out.values()])
    fit = LogisticRegression(C=np.inf).fit(margins[:, None], targets, sample_weight=weights)
    if fit.coef_[0, 0] <= 0:
        raise NothingLearned(
            "on held-out films the scores say nothing of the truth: train longer, on more "
            "films, or look at the labels"
        )
    return Calibration(
        slope=round(float(fit.coef_[0, 0]), 4),
        offset=round(float(fit.intercept_[0]), 4),
        fitted_on="films of held-out domains, classes weighted equally: " + ", ".join(held_out),
    )


def _balanced(targets: NDArray[np.int64]) -> NDArray[np.float64]:
    counts = np.bincount(targets, minlength=2)
    return np.asarray(1 / counts[targets], dtype=np.float64)


def decision_constants(
    held_out: Mapping[str, Scores], calibration: Calibration
) -> DecisionConstants:
    """Threshold with the best balanced accuracy on the domain where it is worst, and a band.

    The band is centred on the threshold in log-odds, as wide as possible while no held-out domain
    has more than a fixed share of its films inside.
    """
    log_odds = {name: log_odds_of(scores, calibration) for name, scores in held_out.items()}
    worst = [
        min(balanced_accuracy(log_odds[name] >= at, held_out[name].targets) for name in held_out)
        for at in _GRID
    ]
    best = np.flatnonzero(np.isclose(worst, max(worst), atol=0.002))
    centre = float(_GRID[best[len(best) // 2]])
    distances = [np.sort(np.abs(values - centre)) for values in log_odds.values()]
    half = min(float(d[int(_MOST_ABSTAINED * len(d))]) for d in distances)
    low, high = (round(_sigmoid(centre + side * half), 3) for side in (-1, 1))
    return DecisionConstants(
        threshold=round(_sigmoid(centre), 3),
        indeterminate=(low, high),
        chosen_on="the held-out domain where it is worst; " + ", ".join(held_out),
    )


def log_odds_of(scores: Scores, calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated log-odds of PNEUMONIA, (N,)."""
    return calibration.slope * scores.margins + calibration.offset


def balanced_accuracy(called: NDArray[np.bool_], targets: NDArray[np.int64]) -> float:
    """Mean of sensitivity and specificity of N calls."""
    return float((called[targets == 1].mean() + (~called)[targets == 0].mean()) / 2)


def domain_metrics(
    scores: Scores, calibration: Calibration, decision: DecisionConstants
) -> dict[str, Any]:
    """What the card says of one held-out domain."""
    score, truth = probability(scores, calibration), scores.targets == 1
    forced = score >= decision.threshold
    answered = called(scores, calibration, decision) >= 0
    return {
        "n": len(truth),
        "auc": round(float(roc_auc_score(truth, score)), 4),
        "sensitivity": round(float(forced[truth].mean()), 4),
        "specificity": round(float((~forced)[~truth].mean()), 4),
        "answered": round(float(answered.mean()), 4),
        "accuracy_answered": round(float((forced == truth)[answered].mean()), 4),
    }


def probability(scores: Scores, calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated probability of PNEUMONIA, (N,)."""
    return np.asarray(1 / (1 + np.exp(-log_odds_of(scores, calibration))))


def called(
    scores: Scores, calibration: Calibration, decision: DecisionConstants
) -> NDArray[np.int64]:
    """Answers, (N,): 0 NORMAL, 1 PNEUMONIA, -1 inside the abstention band."""
    score = probability(scores, calibration)
    low, high = decision.indeterminate
    return np.where((low < score) & (score < high), -1, score >= decision.threshold)


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))
