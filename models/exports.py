"""Exported models: files for another runtime, held to the card beside them."""

from dataclasses import dataclass
from pathlib import Path

from models.cards import Card, Export, read_card
from models.errors import ModelError
from models.weights import read_verified


@dataclass(frozen=True)
class ExportedModel:
    """A verified export: its card, and what its files hold, in the card's order, the main first."""

    card: Card
    about: Export
    contents: tuple[bytes, ...]


def read_export(path: Path) -> ExportedModel:
    """Read the files of an export, each once and through no link.

    Raises ModelError when the card is missing or of another file, or a file is not what it says.
    """
    card = read_card(path)
    about = card.export
    if about is None or card.weights.file != path.name:
        raise ModelError(
            f"the card beside {path} is of {card.weights.file}: give the file its name back, or "
            "export the model again"
        )
    contents = [read_verified(path.parent / name, sha256) for name, sha256 in about.files.items()]
    return ExportedModel(card, about, tuple(contents))
