"""Export a model: convert it, compare it with torch, and only then write it, its card last."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from models.cards import EXPORT_CARD_SUFFIX, Card, Export, FileName, Parity, card_text
from models.registry import LoadedModel
from worker.errors import ExportFailed, ScreenError, UsageError
from worker.export import parity
from worker.export.films import NOISE, noise, read_films
from worker.export.formats import Contents, Films, Format
from worker.export.quiet import quiet
from worker.filesystem import write_new
from worker.inference.engine import Engine
from worker.inference.portable import Portable
from worker.progress import Tell, nobody

_FILE_MODE = 0o644  # no film, no patient


@dataclass(frozen=True)
class ExportRequest:
    """What to export to where; `films` is a folder of real films, needed for int8."""

    format: Format
    out: Path
    int8: bool = False
    films: Path | None = None


@dataclass(frozen=True)
class Exported:
    """An export as it was written: its card, what is said in there of how it compares, its files.

    The main file is the first, the card the last.
    """

    card: Card
    parity: Parity
    files: tuple[Path, ...]


def export(model: LoadedModel, request: ExportRequest, tell: Tell = nobody) -> Exported:
    """Export one model. Nothing is written unless all of it is as it should be.

    Raises UsageError when a package or films are missing or something would be written over,
    ExportFailed when the format cannot take the network or a float32 export answers otherwise.
    """
    card, wanted = model.card, request.format
    wanted.require_converter(int8=request.int8)
    stem = f"{card.name}-int8" if request.int8 else card.name
    names = [_file_name(f"{stem}{suffix}") for suffix in wanted.suffixes]
    files = [request.out / name for name in (*names, names[0] + EXPORT_CARD_SUFFIX)]
    _require_absent(files)
    calibration, compared, of = _films(card, request, tell)
    contents = _converted(Portable(model), card, wanted, calibration)
    found = _compared(model, wanted, contents, compared, of)
    if not request.int8 and not parity.is_alike(found):
        raise ExportFailed(f"the export answers otherwise than its model ({said(found)}): not kept")
    made = _card(card, request, dict(zip(names, contents, strict=True)), found)
    request.out.mkdir(parents=True, exist_ok=True)
    _require_absent(files)
    text = card_text(made).encode()
    try:
        write_new(dict(zip(files, (*contents, text), strict=True)), _FILE_MODE)
    except FileExistsError:  # another export of this name was faster
        _require_absent(files)
        raise
    return Exported(made, found, tuple(files))


def said(found: Parity) -> str:
    """How far an export lies from its model, for people."""
    return (
        f"{found.films} films, {found.of}: probability at most {found.probability:.2g} apart, "
        f"guard score {found.guard_score:.2g}, heat map {100 * found.heat_map:.2g}% of its range; "
        f"changed: {found.forced_choices_changed} forced choices, {found.abstentions_changed} "
        f"abstentions, {found.guard_decisions_changed} decisions of the guard"
    )


def _file_name(name: str) -> str:
    """The name, if a card may hold it. Raises UsageError."""
    try:
        return TypeAdapter(FileName).validate_python(name)
    except ValidationError as error:
        raise UsageError(
            f"the export would be called '{name}', but names of files are of letters (A to Z), "
            "digits, '.', '_' and '-', 128 at most: give the model another name in its card"
        ) from error


def _require_absent(files: list[Path]) -> None:
    for file in files:
        if file.exists() or file.is_symlink():
            raise UsageError(
                f"{file} is there already, and thresholds belong to one exact file: move it away, "
                "or name another folder with --out"
            )


def _films(card: Card, request: ExportRequest, tell: Tell) -> tuple[Films | None, Films, str]:
    """Films to calibrate on, others to compare on, and which those are."""
    if request.films is None:
        if request.int8:
            raise UsageError("int8 is calibrated on real films: name a folder of them with --films")
        return None, noise(card.input.size_px), NOISE
    films = read_films(request.films, card.input, tell)
    of = f"real, from {request.films.resolve().name}"
    if not request.int8:
        return None, films, of
    return films[::2], films[1::2], f"{of}, others than those calibrated on"


def _converted(
    network: Portable, card: Card, wanted: Format, calibration: Films | None
) -> Contents:
    try:
        with quiet():
            return wanted.code.convert(network, card, calibration)
    except ScreenError:
        raise
    except Exception as error:  # converters raise whatever they like
        raise ExportFailed(
            f"{wanted.name} cannot take {card.name} ({card.architecture}): {type(error).__name__}: "
            f"{str(error).strip().partition(chr(10))[0][:200]}"
        ) from error


def _compared(
    model: LoadedModel, wanted: Format, contents: Contents, films: Films, of: str
) -> Parity:
    """The export, opened by its own runtime, beside torch."""
    try:
        found = wanted.code.open_runtime(contents, threads=1)(films)
    except Exception as error:  # so do runtimes
        raise ExportFailed(
            f"the export cannot be opened by its own runtime ({type(error).__name__}): not kept"
        ) from error
    if not all(np.isfinite(part).all() for part in found):
        raise ExportFailed("the export answers with numbers that are not finite: not kept")
    expected = parity.answers_of(Engine(model, "cpu", "float32"), films)
    return parity.compare(found, expected, model.card, of)


def _card(card: Card, request: ExportRequest, files: dict[str, bytes], found: Parity) -> Card:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    main = next(iter(hashes))
    about = Export(
        format=request.format.name,
        precision="int8" if request.int8 else "float32",
        source_sha256=card.weights.sha256,
        files=hashes,
        made_with=request.format.versions(int8=request.int8),
        parity=found,
    )
    return Card.model_validate(
        card.model_dump() | {"weights": {"file": main, "sha256": hashes[main]}, "export": about}
    )
