"""A threshold of the site's own, chosen on its labelled films to find a share of its patients.

Patients count, not films, and each by their worst film: one with pneumonia is found when every
film that shows it is called, one without is spared when no normal film is. Each film is a row of
its own in the worklist, and may be the only one. Were a patient found by any of their films, a
patient with many would hide the misses that the next patient with one film meets.
Films that are REFUSED, whatever the score, are in no rate.

Intervals of patients are Clopper and Pearson's (Biometrika 1934). The lower end for sensitivity
stays exact although the threshold comes from the same patients: it is an order statistic of their
scores, and the share of a population above one is beta distributed (Wilks, Ann. Math. Stat. 1941).
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from models.cards import DecisionConstants
from worker.errors import NoOperatingPoint, UsageError
from worker.evaluate import bootstrap
from worker.evaluate.metrics import RESAMPLES, SEED
from worker.evaluate.sample import Sample, Scored, decoded, sample
from worker.labels import LABELS
from worker.records import Decision, Labels
from worker.thresholds import Measured, Rate

LEAST_PATIENTS = 30  # of each class; finding all of 30 still leaves 12% that may be missed
_STEP = 0.001  # thresholds are shown with three decimals
_TAIL = (1 - bootstrap.LEVEL) / 2
_BAND_DECIMALS = 6

Band = tuple[float, float]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its abstention band in calibrated probability, and what it did."""

    threshold: float
    indeterminate: Band
    measured: Measured

    @property
    def every_film_a_patient(self) -> bool:
        """Whether no patient has two films: true, or nobody said whose films these are."""
        rates = self.measured.sensitivity, self.measured.specificity
        return sum(rate.of for rate in rates) == self.measured.films


def choose(
    scored: Sequence[Scored],
    card: DecisionConstants,
    target: float,
    labels: Labels = LABELS,
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> OperatingPoint:
    """The highest threshold, in steps of 0.001, that finds the share `target` of the patients.

    `card` holds the constants that came with the model: its band moves along, as wide as before in
    log-odds. Raises NoOperatingPoint when the films cannot support it, UsageError when one picture
    has two labels.
    """
    once = _without_copies(decoded(scored))
    films = [film for film in once if film.record.decision != Decision.REFUSED]
    negative, positive = labels
    lowest, highest = _patients(films, positive, min), _patients(films, negative, max)
    _require_enough(len(lowest), len(highest), refused=len(once) - len(films))
    needed = max(1, math.ceil(target * len(lowest) - 1e-9))
    threshold = _step_below(float(np.sort(lowest)[-needed]))
    if threshold <= 0:
        raise NoOperatingPoint(
            f"to find {target:.3g} of the {len(lowest)} patients with the finding, the threshold "
            f"would lie below {_STEP:g} and every film be called: choose a lower --sensitivity, "
            "or look at the labels with 'screen evaluate'"
        )
    band = moved_band(card, threshold)
    rates = _film_rates(sample(films, threshold, labels), band, seed, resamples)
    return OperatingPoint(
        threshold,
        band,
        Measured(
            sensitivity=_of_patients(lowest >= threshold, at_least=needed),
            specificity=_of_patients(highest < threshold),
            **rates,
            films=len(films),
            refused=len(once) - len(films),
            unreadable=len(scored) - len(decoded(scored)),
            copies=len(decoded(scored)) - len(once),
            films_sha256=_digest(films),
        ),
    )


def exact_interval(hits: int, of: int) -> Band:
    """95% interval of a share, never too narrow (Clopper and Pearson 1934).

    >>> [round(bound, 3) for bound in exact_interval(30, 30)]
    [0.884, 1.0]
    """
    low = beta.ppf(_TAIL, hits, of - hits + 1) if hits else 0.0
    high = beta.ppf(1 - _TAIL, hits + 1, of - hits) if hits < of else 1.0
    return float(low), float(high)


def moved_band(card: DecisionConstants, threshold: float) -> Band:
    """The card's abstention band around another threshold, as wide in log-odds as it was.

    Raises NoOperatingPoint for a card whose threshold is 0 or 1: its band has no width.
    """
    if not 0 < card.threshold < 1:
        raise NoOperatingPoint(
            f"the card's own threshold is {card.threshold:g}: a band cannot be moved from there"
        )
    shift = _log_odds(threshold) - _log_odds(card.threshold)
    low, high = (_probability(_log_odds(end) + shift) for end in card.indeterminate)
    return min(round(low, _BAND_DECIMALS), threshold), max(round(high, _BAND_DECIMALS), threshold)


def _without_copies(films: Sequence[Scored]) -> list[Scored]:
    """Each picture once. Raises UsageError when copies carry different labels."""
    seen: dict[str, Scored] = {}
    for film in films:
        first = seen.setdefault(str(film.record.sha256), film)
        if first.label != film.label:
            raise UsageError(
                f"{first.record.file} and {film.record.file} are the same picture, labelled "
                f"{first.label} and {film.label}: correct one of the labels"
            )
    return list(seen.values())


def _patients(films: Sequence[Scored], label: str, worst: Callable[[list[float]], float]) -> Floats:
    """The worst score of each patient's films with a label, (patients,)."""
    scores: dict[str, list[float]] = {}
    for film in films:
        if film.label == label and film.record.probability is not None:
            scores.setdefault(film.group, []).append(film.record.probability)
    return np.array([worst(of_patient) for of_patient in scores.values()], dtype=np.float64)


def _require_enough(pneumonia: int, normal: int, refused: int) -> None:
    if min(pneumonia, normal) < LEAST_PATIENTS:
        raise NoOperatingPoint(
            f"found {pneumonia} patients with the finding and {normal} without, not counting "
            f"{refused} refused films; a threshold needs {LEAST_PATIENTS} of each, or nobody can "
            "say what it does: label more films of this site"
        )


def _step_below(score: float) -> float:
    """The score rounded down, below 1: with `score >= threshold`, whoever had it is still found."""
    steps = math.floor(score / _STEP + 1e-9)
    steps -= round(steps * _STEP, 3) > score
    return min(round(steps * _STEP, 3), 1 - _STEP)


def _of_patients(hit: NDArray[np.bool_], at_least: int | None = None) -> Rate:
    """A share of patients; `at_least` of them were sure to be hits before anything was seen."""
    hits, of = int(hit.sum()), len(hit)
    low, high = exact_interval(hits, of)
    if at_least is not None:
        low, _ = exact_interval(at_least, of)
    return Rate(hits=hits, of=of, low=low, high=high)


def _film_rates(films: Sample, band: Band, seed: int, resamples: int) -> dict[str, Rate]:
    """What happens to films, with intervals by patient."""
    low, high = band
    answered = (films.scores <= low) | (films.scores >= high)
    wrong = films.called != films.truth
    everything = np.ones_like(answered)
    shares = {
        "film_sensitivity": (films.called, films.truth),
        "film_specificity": (~films.called, ~films.truth),
        "coverage": (answered, everything),
        "risk": (wrong, answered),
    }
    return {
        name: _of_films(films, hit, among, seed, resamples) for name, (hit, among) in shares.items()
    }


def _of_films(
    films: Sample, hit: NDArray[np.bool_], among: NDArray[np.bool_], seed: int, resamples: int
) -> Rate:
    """The share of `hit` films `among` some of them, as the sensitivity of a set of their own."""
    _, patients = np.unique(films.groups[among], return_inverse=True)
    share = Sample(
        truth=np.ones(int(among.sum()), dtype=np.bool_),
        called=hit[among],
        scores=films.scores[among],
        groups=patients,
        threshold=films.threshold,
    )
    hits, of = int(share.called.sum()), len(share.called)
    bounds = bootstrap.intervals(bootstrap.resample(share, seed, resamples))["sensitivity"]
    if of and hits in (0, of):  # a bootstrap cannot draw what was not seen
        count = int(patients.max()) + 1
        bounds = exact_interval(count if hits else 0, count)
    low, high = bounds or (None, None)
    return Rate(hits=hits, of=of, low=low, high=high)


def _digest(films: Sequence[Scored]) -> str:
    """One name for the films with their labels and patients, whatever their order and names."""
    patients = {
        film.group: None for film in sorted(films, key=lambda film: str(film.record.sha256))
    }
    number = {group: index for index, group in enumerate(patients)}
    lines = [f"{film.record.sha256} {film.label} {number[film.group]}" for film in films]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _log_odds(probability: float) -> float:
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0
