"""Exported models: files for another runtime, held to the card beside them."""

from dataclasses import dataclass
from pathlib import Path

from models.cards import Card, Export, read_card
from models.errors import ModelError
from models.registry import LoadedModel, load_model
from models.weights import read_verified


@dataclass(frozen=True)
class ExportedModel:
    """A verified export: its card, and what its files hold, in the card's order, the main first."""

    card: Card
    about: Export
    contents: tuple[bytes, ...]


def load(path: Path) -> LoadedModel | ExportedModel:
    """Load what `find_model` found: a model folder for torch, or an exported file.

    Raises ModelError as `load_model` and `read_export` do.
    """
    return load_model(path) if path.is_dir() else read_export(path)


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
