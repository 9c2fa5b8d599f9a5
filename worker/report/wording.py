"""What decisions are called and what they mean, in the words that a radiologist reads."""

from collections.abc import Iterable
from dataclasses import dataclass

from worker.records import Labels, Role, role_of

CAVEAT = "Decision support for a radiologist, not a diagnosis"


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


def meaning(decision: str, labels: Labels) -> str:
    """One or two sentences that say what the decision means and what it does not."""
    negative, positive = labels
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
        Role.REFUSED: "The model does not answer for this film. A human must read it.",
    }[role_of(decision, labels)]
