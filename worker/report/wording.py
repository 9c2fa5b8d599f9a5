"""What decisions are called and what they mean, in the words that a radiologist reads."""

from collections.abc import Iterable
from dataclasses import dataclass

from worker.records import Labels, Reason, Record, Role, Tags, role_of
from worker.report.text import age, score, sentence
from worker.report.view import ModelFacts

CAVEAT = "Decision support for a radiologist, not a diagnosis"
INT8_HEAT_MAP = (
    "From an int8 file: cells may be off by half of the scale and more; see the float32 file"
)

# As docs/OUTCOMES.md has them.
REASONS: dict[str, str] = {
    Reason.NOT_A_CHEST_RADIOGRAPH: (
        "the picture is unlike every frontal chest film the model knows"
    ),
    Reason.WRONG_MODALITY: (
        "the DICOM modality is not CR, DX, RG, OT or SC, or the object's SOP class is that of "
        "something else"
    ),
    Reason.WRONG_BODY_PART: "BodyPartExamined names something other than the chest",
    Reason.LATERAL_VIEW: "ViewPosition, view code or orientation say lateral or oblique",
    Reason.MULTI_FRAME: "the object has more than one frame",
    Reason.VETERINARY: "the tags say that the patient is an animal",
    Reason.TOO_SMALL: "the short side has fewer than 100 pixels",
    Reason.BLANK: "the picture has no contrast",
    Reason.POLARITY_UNSURE: (
        "the pixels look like a negative although the tags say otherwise; never flipped by guess"
    ),
    Reason.OUTSIDE_VALIDATED_POPULATION: (
        "the patient's age, or the look of the film, lies outside what the model was validated on"
    ),
}
_NO_CHEST = Reason.NOT_A_CHEST_RADIOGRAPH


@dataclass(frozen=True)
class Group:
    """One block of the worklist: `slug` names its icon and anchor."""

    slug: str
    title: str
    meaning: str


# Most urgent first; the slugs of the groups are the roles of decisions, and `failed`.
SLUGS = (Role.POSITIVE, Role.INDETERMINATE, Role.REFUSED, "failed", Role.NEGATIVE)


def groups(labels: Iterable[Labels]) -> tuple[Group, ...]:
    """The blocks of a worklist in their order, in the words of all models that answered in it."""
    pairs = list(dict.fromkeys(labels))
    negative, positive = (
        " or ".join(dict.fromkeys(pair[index] for pair in pairs)) for index in (0, 1)
    )
    looked_for = f"Only {positive} was looked for."
    if len(pairs) > 1:
        looked_for = f"Each film's model looked for nothing else than its own: {positive}."
    said = (
        (positive, f"Score on the {positive} side of the threshold: read these first."),
        ("INDETERMINATE", "Score inside the abstention band: a human must decide."),
        ("REFUSED", "No answer from the model: a human must read these."),
        ("UNREADABLE", "Never screened: no model has looked at these files. A human must."),
        (negative, f"Score on the {negative} side of the threshold. {looked_for}"),
    )
    return tuple(Group(slug, *words) for slug, words in zip(SLUGS, said, strict=True))


def sorting(shown: Iterable[Group]) -> str:
    """How the worklist is sorted, for its reader."""
    title = {group.slug: group.title for group in shown}
    return (
        f"Most urgent first: {title[Role.POSITIVE]} by falling score, INDETERMINATE by falling "
        "score, REFUSED and then UNREADABLE (newest first: no answer, so a human must look), and "
        f"{title[Role.NEGATIVE]} last, by falling score. Duplicates follow the film whose report "
        "they share."
    )


def meaning(record: Record, labels: Labels) -> str:
    """What the decision means and what it does not; of a refusal, what its reason means."""
    negative, positive = labels
    role = role_of(record.decision, labels)
    if role == Role.REFUSED:
        known = REASONS.get(record.reason or "", "")
        return f"{sentence(known)} The model does not answer for this film. A human must read it."
    return {
        Role.POSITIVE: f"The score lies on the {positive} side of the threshold.",
        Role.NEGATIVE: (
            f"The score lies on the {negative} side of the threshold. The model looks for "
            f"{positive} only; other disease is not excluded."
        ),
        Role.INDETERMINATE: (
            "The score lies inside the abstention band, where the model does not answer. "
            "A human must decide."
        ),
    }[role]


def why(record: Record, model: ModelFacts, tags: Tags) -> list[str]:
    """Why the decision was so for this film: what was compared with what, in numbers.

    Empty where the record's own message is all there is to say.
    """
    facts = []
    years = tags.patient_age_years
    outside = record.reason == Reason.OUTSIDE_VALIDATED_POPULATION
    if outside and years is not None and not model.population.includes(years):
        youngest, oldest = model.population.min_age_years, model.population.max_age_years
        facts.append(f"Age {age(years)}; the model was validated on {youngest:g}–{oldest:g} years.")
    guard = record.guard_score if outside or record.reason == _NO_CHEST else None
    if guard is not None and guard > record.guard_threshold:
        facts.append(
            f"Guard score {score(guard)}, above its limit {score(record.guard_threshold)}."
        )
    if record.reason == Reason.LATERAL_VIEW and tags.view_position:
        facts.append(f"ViewPosition is {tags.view_position}.")
    refused = role_of(record.decision, model.labels) == Role.REFUSED
    if record.probability is not None and not refused:
        facts.append(_place(record.probability, record.threshold, model.indeterminate))
    return facts


def _place(probability: float, threshold: float, band: tuple[float, float]) -> str:
    """Where a score lies: in the abstention band, or on which side of it."""
    low, high = map(score, band)
    if band[0] < probability < band[1]:
        return f"{score(probability)} lies between {low} and {high}."
    side = "above" if probability >= threshold else "below"
    return f"{score(probability)} lies {side} the abstention band {low}–{high}."
