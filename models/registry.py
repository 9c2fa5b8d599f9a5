"""Find models by name or folder, verify and load them."""

from dataclasses import dataclass
from pathlib import Path

import torch

from models.architectures import build
from models.cards import CARD_NAME, Card, read_card
from models.ensemble import Ensemble
from models.errors import ModelError, UnknownModel
from models.names import DEFAULT, SHIPPED, shipped_names
from models.weights import read_weights


@dataclass(frozen=True)
class LoadedModel:
    """A verified model, in evaluation mode on the CPU; `guard` are the guard's tensors."""

    card: Card
    network: Ensemble
    guard: dict[str, torch.Tensor]


def find_model(name: str, base: Path = Path()) -> Path:
    """Folder of the model `name`: `default`, a shipped name, or a folder (relative to `base`).

    Also an exported file: what stands there and is no folder. Raises UnknownModel naming what
    there is.
    """
    shipped = SHIPPED / (DEFAULT if name == "default" else name)
    for folder in (shipped, base / name):
        if (folder / CARD_NAME).is_file():
            return folder
    if (base / name).is_file():
        return base / name
    known = ", ".join(["default", *shipped_names()])
    raise UnknownModel(
        f"no model '{name}': known are {known}, or name a folder with {CARD_NAME}, or an exported "
        "file"
    )


def load_model(folder: Path) -> LoadedModel:
    """Load a model folder after checking its weights against the card.

    Raises ModelError when card, weights and architecture do not fit each other.
    """
    card = read_card(folder)
    if card.export:
        raise ModelError(
            f"{folder} was exported for {card.export.format}, which torch does not read: name the "
            "model that it was made from"
        )
    path = folder / card.weights.file
    nets, guard = read_weights(path, card.weights.sha256, len(card.members))
    members = []
    for member, tensors in zip(card.members, nets, strict=True):
        classifier = build(member.architecture, card.input.size_px, member.mean, member.std)
        try:
            classifier.net.load_state_dict(tensors)
        except RuntimeError as error:
            raise ModelError(
                f"{folder}: the weights do not fit the architecture {member.architecture}"
            ) from error
        members.append(classifier.eval())
    return LoadedModel(card, Ensemble(members).eval(), guard)
