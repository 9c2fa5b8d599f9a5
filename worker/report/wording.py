"""What decisions are called and what they mean, in the words that a radiologist reads."""

from dataclasses import dataclass

from worker.records import Decision

CAVEAT = "Decision support for a radiologist, not a diagnosis"

SORTING = (
    "Most urgent first: PNEUMONIA by falling score, INDETERMINATE by falling score, REFUSED and "
    "then UNREADABLE (newest first: no answer, so a human must look), and NORMAL last, by falling "
    "score. Duplicates follow the film whose report they share."
)


@dataclass(frozen=True)
class Group:
    """One block of the worklist: `slug` names its icon and anchor."""

    slug: str
    title: str
    meaning: str


GROUPS = (
    Group(
        "pneumonia", "PNEUMONIA", "Score on the pneumonia side of the threshold: read these first."
    ),
    Group(
        "indeterminate", "INDETERMINATE", "Score inside the abstention band: a human must decide."
    ),
    Group("refused", "REFUSED", "No answer from the model: a human must read these."),
    Group(
        "failed", "UNREADABLE", "Never screened: no model has looked at these files. A human must."
    ),
    Group(
        "normal",
        "NORMAL",
        "Score on the normal side of the threshold. Only pneumonia was looked for.",
    ),
)

_MEANINGS = {
    Decision.PNEUMONIA: "The score lies on the pneumonia side of the threshold.",
    Decision.NORMAL: (
        "The score lies on the normal side of the threshold. The model looks for pneumonia "
        "only; other disease is not excluded."
    ),
    Decision.INDETERMINATE: (
        "The score lies inside the abstention band, where the model does not answer. "
        "A human must decide."
    ),
    Decision.REFUSED: "The model does not answer for this film. A human must read it.",
}


def meaning(decision: Decision) -> str:
    """One or two sentences that say what the decision means and what it does not."""
    return _MEANINGS[decision]
