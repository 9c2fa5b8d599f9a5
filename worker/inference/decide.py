"""From scores to a decision: a pure function, and the sentences that go with it."""

from dataclasses import dataclass
from typing import Literal

from models.cards import Card
from worker.records import Decision, Prediction, Reason, Refusal, Tags

OutsidePopulation = Literal["refuse", "mark"]

_ADULT_YEARS = 40


@dataclass(frozen=True)
class Verdict:
    """A decision in the card's words.

    `reason` and `message` say why a film was refused or marked, else empty.
    """

    decision: str
    reason: Reason | None
    message: str


def decide(
    prediction: Prediction,
    card: Card,
    refusal: Refusal | None,
    tags: Tags,
    outside_population: OutsidePopulation,
) -> Verdict:
    """Decide on one film: what tags and pixels forbid, then the guard, then the score."""
    if refusal:
        return Verdict(Decision.REFUSED, refusal.reason, refusal.message)
    unlike = prediction.guard_score > card.guard.threshold
    if unlike and prediction.not_chest_score > 0.5 and _age_may_fit(tags, card):
        return Verdict(
            Decision.REFUSED,
            Reason.NOT_A_CHEST_RADIOGRAPH,
            "The picture is unlike the frontal chest films that the model knows.",
        )
    outside = _outside_population(prediction, card, tags)
    if outside and outside_population == "refuse":
        return Verdict(Decision.REFUSED, Reason.OUTSIDE_VALIDATED_POPULATION, outside)
    answer = _answer(prediction.probability, card)
    if outside:
        return Verdict(answer.decision, Reason.OUTSIDE_VALIDATED_POPULATION, f"Marked: {outside}")
    return answer


def _age_may_fit(tags: Tags, card: Card) -> bool:
    """Whether the patient may belong to the population, as far as the tags tell."""
    age = tags.patient_age_years
    return age is None or card.population.includes(age)


def _outside_population(prediction: Prediction, card: Card, tags: Tags) -> str | None:
    population, age = card.population, tags.patient_age_years
    if age is not None and not _age_may_fit(tags, card):
        return (
            f"The patient is {int(age)} years old; the model was validated on "
            f"{population.description}, {population.min_age_years:g} to "
            f"{population.max_age_years:g} years old."
        )
    if prediction.guard_score > card.guard.threshold:
        adults = "" if population.includes(_ADULT_YEARS) else "; most such films are of adults"
        return (
            f"The film is unlike those the model was validated on ({population.description})"
            f"{adults}."
        )
    return None


def _answer(probability: float, card: Card) -> Verdict:
    negative, positive = card.labels
    low, high = card.decision.indeterminate
    if low < probability < high:
        return Verdict(Decision.INDETERMINATE, None, "")
    if probability >= card.decision.threshold:
        return Verdict(positive, None, "")
    return Verdict(negative, None, "")
