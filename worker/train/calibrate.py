"""From margins on held-out domains to probabilities, a threshold and an abstention band."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.cards import Calibration, DecisionConstants
from worker.errors import NothingLearned
from worker.train.validate import Scores

SENSITIVITY, SPECIFICITY = 0.95, 0.93  # wanted of the operating point, on films
_CONFIDENCE_Z = 1.645  # one-sided 95%
_MOST_ABSTAINED = 0.06  # of the films of any held-out domain
_GRID = np.linspace(-6, 6, 481)  # calibrated log-odds


def calibrate(held_out: Mapping[str, Scores]) -> Calibration:
    """Platt scaling (Platt 1999) over all held-out domains, each class of each counting the same.

    Probabilities are therefore those of a population in which every second film is positive.
    Raises NothingLearned when higher margins do not mean the positive class.
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
    """The operating point, and an abstention band around it.

    A sensitivity and a specificity are wanted, on every held-out domain. The threshold is where the
    worst domain misses them by least, or keeps the most room to both. The band is centred on it
    in log-odds, as wide as possible while no held-out domain has more than a fixed share of its
    films inside.
    """
    log_odds = {name: log_odds_of(scores, calibration) for name, scores in held_out.items()}
    room = [
        min(_room(log_odds[name] >= at, scores.targets == 1) for name, scores in held_out.items())
        for at in _GRID
    ]
    best = np.flatnonzero(np.isclose(room, max(room), atol=1e-9))
    centre = float(_GRID[best[len(best) // 2]])
    distances = [np.sort(np.abs(values - centre)) for values in log_odds.values()]
    half = min(float(d[int(_MOST_ABSTAINED * len(d))]) for d in distances)
    low, high = (round(_sigmoid(centre + side * half), 3) for side in (-1, 1))
    return DecisionConstants(
        threshold=round(_sigmoid(centre), 3),
        indeterminate=(low, high),
        chosen_on=f"where the worst held-out domain is nearest to sensitivity {SENSITIVITY:.0%} "
        f"and specificity {SPECIFICITY:.0%}: {', '.join(held_out)}",
    )


def _room(called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """By how much the calls of N films exceed what is wanted; negative where they fall short."""
    sensitivity, specificity = called[truth].mean(), (~called)[~truth].mean()
    return float(min(sensitivity - SENSITIVITY, specificity - SPECIFICITY))


def patients_found(called: NDArray[np.bool_], scores: Scores) -> tuple[float, float]:
    """Sensitivity by patient, and its lower 95% confidence bound (one-sided).

    Each patient counts once, with the share of their films that were called (N,): twenty films of
    one child are one observation. The bound is Wilson's (JASA 1927) for the number of patients.
    """
    positive = scores.targets == 1
    _, patient = np.unique(scores.patients[positive], return_inverse=True)
    films = np.bincount(patient)
    found = np.bincount(patient, weights=called[positive]) / films
    n, share, z = len(films), float(found.mean()), _CONFIDENCE_Z
    spread = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return share, (share + z**2 / (2 * n) - spread) / (1 + z**2 / n)


def log_odds_of(scores: Scores, calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated log-odds of PNEUMONIA, (N,)."""
    return calibration.slope * scores.margins + calibration.offset


def domain_metrics(
    scores: Scores, calibration: Calibration, decision: DecisionConstants
) -> dict[str, Any]:
    """What the card says of one held-out domain; `None` where nothing was answered."""
    score, truth = probability(scores, calibration), scores.targets == 1
    forced = score >= decision.threshold
    answered = called(scores, calibration, decision) >= 0
    found, bound = patients_found(forced, scores)
    return {
        "n": len(truth),
        "patients": len(np.unique(scores.patients)),
        "auc": round(float(roc_auc_score(truth, score)), 4),
        "sensitivity": round(float(forced[truth].mean()), 4),
        "patients_found": round(found, 4),
        "patients_found_bound": round(bound, 4),
        "specificity": round(float((~forced)[~truth].mean()), 4),
        "ece": round(_calibration_error(truth, score), 4),
        "answered": round(float(answered.mean()), 4),
        "accuracy_answered": round(float((forced == truth)[answered].mean()), 4)
        if answered.any()
        else None,
    }


def _calibration_error(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """Expected calibration error in 15 bins, both classes weighing the same, as in `calibrate`."""
    weights = _balanced(truth.astype(np.int64))
    bins = np.minimum((score * 15).astype(int), 14)
    gaps = np.bincount(bins, weights=weights * (truth - score), minlength=15)
    return float(np.abs(gaps).sum() / weights.sum())


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
