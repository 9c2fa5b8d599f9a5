"""Names of the models that come with the program. A shell asks for them: no torch here."""

from pathlib import Path

from models.cards import CARD_NAME

SHIPPED = Path(__file__).resolve().parent / "shipped"
DEFAULT = "kermany-mobilenet-v2"


def shipped_names() -> list[str]:
    """Names of the models that come with the program, the default first."""
    names = sorted(card.parent.name for card in SHIPPED.glob(f"*/{CARD_NAME}"))
    return sorted(names, key=lambda name: name != DEFAULT)
