"""Which films get a report: all, or only those that somebody should look at."""

from typing import Literal

from worker.records import Labels, Reason, Role, role_of

Reports = Literal["all", "positive", "none"]

# Chest films that the program could not judge: nobody has read them, and a gravely ill chest is
# unlike others. The other refusals are what the file says of itself (another body part, a lateral
# view, an animal) or a picture on which there is nothing to see.
_UNJUDGED = frozenset(
    {
        Reason.NOT_A_CHEST_RADIOGRAPH,
        Reason.POLARITY_UNSURE,
        Reason.OUTSIDE_VALIDATED_POPULATION,
    }
)


def needs_eyes(decision: str, reason: str | None, labels: Labels) -> bool:
    """Whether a reader should see a film: positive, undecided, or a chest that nobody judged."""
    match role_of(decision, labels):
        case Role.POSITIVE | Role.INDETERMINATE:
            return True
        case Role.REFUSED:
            return reason in _UNJUDGED
        case _:
            return False


def gets_report(which: Reports, decision: str, reason: str | None, labels: Labels) -> bool:
    """Whether a film with this answer gets page and picture."""
    return which == "all" or (which == "positive" and needs_eyes(decision, reason, labels))
