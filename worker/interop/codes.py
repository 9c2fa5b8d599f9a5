"""The coded terms of answers. What no public scheme says has our own scheme, 99SCREEN."""

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept

from models.cards import Card
from worker.labels import LABELS
from worker.records import Role

PRIVATE_SCHEME = "99SCREEN"  # private designators begin with 99 (PS3.3 8.2)
_LONGEST_MEANING = 64  # characters of Code Meaning, an LO (PS3.5 6.2)

PROCESSING_EQUIPMENT = CodedConcept("109102", "DCM", "Processing Equipment")
SOURCE_IMAGE = CodedConcept("121322", "DCM", "Source image for image processing operation")
RADIOGRAPHY = CodedConcept("168537006", "SCT", "Plain radiography")  # CID 10005
PRESENCE = CodedConcept("121052", "DCM", "Presence of property")
_CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")  # 0 to 100 %
PERCENT = CodedConcept("%", "UCUM", "Percent")
COMMENT = CodedConcept("121106", "DCM", "Comment")
DECISION = CodedConcept("decision", PRIVATE_SCHEME, "Decision of the algorithm")
_PNEUMONIA = CodedConcept("233604007", "SCT", "Pneumonia")
PRESENCE_BY_ROLE = {
    Role.POSITIVE: CodedConcept("10828004", "SCT", "Positive"),  # CID 250
    Role.NEGATIVE: CodedConcept("260385009", "SCT", "Negative"),  # CID 250
    Role.INDETERMINATE: CodedConcept("82334004", "SCT", "Indeterminate"),
    Role.REFUSED: CodedConcept("373121007", "SCT", "Not Evaluated"),  # CID 3703
}


def scheme() -> CodingSchemeIdentificationItem:
    """Who answers for our own codes (PS3.3 C.12.1.1.7)."""
    return CodingSchemeIdentificationItem(
        PRIVATE_SCHEME, name="Screen, words of model cards", responsible_organization="Screen"
    )


def finding_code(card: Card) -> CodedConcept:
    """What the model looks for: as its card codes it, pneumonia for the shipped word.

    Any other word is a code of our own: a SNOMED code that only nearly fits would be a lie.
    """
    if card.finding_code:
        code = card.finding_code
        return CodedConcept(code.value, code.scheme, code.meaning)
    if card.labels[1] == LABELS[1]:
        return _PNEUMONIA
    return word_code(card.labels[1])


def word_code(word: str) -> CodedConcept:
    """A label of a card, or a decision, as a code of our own."""
    return CodedConcept(word, PRIVATE_SCHEME, word.replace("_", " ").capitalize())


def probability_code(finding: CodedConcept, role: Role) -> CodedConcept:
    """What the calibrated probability is called beside a decision.

    It is a certainty of the finding only where the finding is said to be there: of an absent one,
    1 % would be read as an uncertain absence.
    """
    if role is Role.POSITIVE:
        return _CERTAINTY
    meaning = f"Calibrated probability of {finding.meaning}"[:_LONGEST_MEANING].strip()
    return CodedConcept(f"probability {finding.value}", PRIVATE_SCHEME, meaning)


def decision_code(decision: str) -> CodedConcept:
    """The decision in the program's own words, as pages and database have it."""
    return CodedConcept(decision, PRIVATE_SCHEME, decision)
