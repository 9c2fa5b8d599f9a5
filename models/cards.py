"""The card of a model: everything its user and the program must know, beside the weights."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from models.errors import ModelError

CARD_NAME = "card.json"
EXPORT_CARD_SUFFIX = ".card.json"  # after the name of an exported file

Probability = Annotated[float, Field(ge=0, le=1)]

# A label is a decision's text: safe as the name of a folder, in CSV, SQL and on a page.
Label = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_-]{0,31}$")]
_NO_LABELS = ("INDETERMINATE", "REFUSED", "FAILED", "UNREADABLE")  # what is said of any film


def _check_labels(labels: tuple[Label, Label]) -> tuple[Label, Label]:
    if labels[0] == labels[1]:
        raise ValueError(f"both are {labels[0]}: name two classes")
    if taken := set(labels) & set(_NO_LABELS):
        raise ValueError(f"{taken.pop()} has a meaning of its own: take another word")
    return labels


Labels = Annotated[tuple[Label, Label], AfterValidator(_check_labels)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


FileName = Annotated[str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]  # never elsewhere
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class WeightsFile(_Part):
    """The file beside the card that holds the weights, and the SHA-256 it must have."""

    file: FileName
    sha256: Sha256


class InputConstants(_Part):
    """How a film becomes the model's input: squash to a square, stretch between percentiles."""

    size_px: Annotated[int, Field(ge=32, le=2048)]
    low_percentile: Annotated[float, Field(ge=0, lt=100)]
    high_percentile: Annotated[float, Field(gt=0, le=100)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must lie below high_percentile")
        return self


class Member(_Part):
    """One network of the model; `mean` and `std` normalise its input after the stretch to [0, 1].

    Several answer with the mean of their margins.
    """

    architecture: str
    mean: float
    std: Annotated[float, Field(gt=0)]


class Calibration(_Part):
    """Platt scaling: calibrated log-odds = slope × margin + offset.

    The margin is second logit − first logit, of several networks their mean.
    """

    slope: Annotated[float, Field(gt=0)]
    offset: float
    fitted_on: str


class DecisionConstants(_Part):
    """Threshold and abstention band [low, high], in calibrated probability; for these weights only.

    A film inside the band is INDETERMINATE.
    """

    threshold: Probability
    indeterminate: tuple[Probability, Probability]
    chosen_on: str

    @model_validator(mode="after")
    def _threshold_in_band(self) -> Self:
        low, high = self.indeterminate
        if not low <= self.threshold <= high:
            raise ValueError(
                f"the threshold {self.threshold} lies outside its abstention band [{low}, {high}]"
            )
        return self


class GuardConstants(_Part):
    """A guard score above the threshold means: unlike the films the model was validated on."""

    threshold: Probability
    fitted_on: str


class HeatMapConstants(_Part):
    """The evidence (log-odds) at the top of the heat map's fixed scale."""

    evidence_scale: Annotated[float, Field(gt=0)]


class PrecisionConstants(_Part):
    """What bfloat16 does to these weights, on films they were trained on.

    The share of changed decisions counts: 0 lets the program choose bfloat16 by itself.
    """

    bfloat16_decisions_changed: Annotated[float, Field(ge=0, le=1)]
    bfloat16_mean_probability_change: float


REFERENCE_BINS = 20

Count = Annotated[int, Field(ge=0)]
Counts = Annotated[tuple[Count, ...], Field(min_length=REFERENCE_BINS, max_length=REFERENCE_BINS)]


class Reference(_Part):
    """How the model scored films it was meant for, in 20 equal bins from 0 to 1.

    `scores` counts calibrated probabilities of films that the guard let pass, `guard` the guard
    scores of all `films`. `of` says which films, for people. It decides nothing: it is no part of
    a result's identity.
    """

    films: Annotated[int, Field(ge=1)]
    of: str
    scores: Counts
    guard: Counts

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(self.guard) != self.films or sum(self.scores) > self.films:
            raise ValueError("the counts do not add up to the number of films")
        return self


class FindingCode(_Part):
    """What the positive label means, as a term of a public coding scheme, for answers in DICOM.

    `scheme` is a designator of PS3.16 chapter 8, such as SCT; `meaning` is the scheme's own words.
    """

    value: Annotated[str, Field(pattern="^[A-Za-z0-9.:_-]{1,64}$")]
    scheme: Annotated[str, Field(pattern="^[A-Z0-9_-]{1,16}$")]
    meaning: Annotated[str, Field(pattern=r"^[^\\\x00-\x1f]{1,64}$")]


class Parity(_Part):
    """How far an export's answers lie from those of the model itself, by torch, on the same films.

    Largest differences: of probabilities, of guard scores, of heat maps as a share of the range of
    the model's own map of that film. `forced_choices_changed` counts films on the other side of the
    threshold, `abstentions_changed` those within the abstention band for one alone,
    `guard_decisions_changed` those on the other side of the guard's. `of` says which films, for
    people.
    """

    films: Annotated[int, Field(ge=1)]
    of: str
    probability: Annotated[float, Field(ge=0)]
    heat_map: Annotated[float, Field(ge=0)]
    guard_score: Annotated[float, Field(ge=0)]
    forced_choices_changed: Count
    abstentions_changed: Count
    guard_decisions_changed: Count


class Export(_Part):
    """What an exported model was made from and with, and how it compares.

    `source_sha256` is that of the weights it was made from, `files` names every file of the export
    with its SHA-256, `made_with` packages with their versions.
    """

    format: Annotated[str, Field(pattern="^[a-z]{1,16}$")]
    precision: Literal["float32", "int8"]
    source_sha256: Sha256
    files: Annotated[dict[FileName, Sha256], Field(min_length=1)]
    made_with: dict[str, str]
    parity: Parity


class Population(_Part):
    """Whose films the model was validated on; ages in years, both ends included."""

    description: str
    min_age_years: float
    max_age_years: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not 0 <= self.min_age_years <= self.max_age_years:
            raise ValueError("ages must be at least 0, and min_age_years not above max_age_years")
        return self

    def includes(self, age_years: float) -> bool:
        """Whether a patient of this age belongs to it; at 5½ years one is five years old."""
        return self.min_age_years <= age_years < math.floor(self.max_age_years) + 1


class Card(_Part):
    """One model, complete.

    `labels` name the network's two outputs in their order: first what a film without the finding
    is called, then the finding that the model looks for, the positive one. In the card of an
    `export`, `weights` are the export's main file: what answers is what a result names.
    """

    name: str
    version: str
    members: Annotated[tuple[Member, ...], Field(min_length=1)]
    labels: Labels
    weights: WeightsFile
    input: InputConstants
    calibration: Calibration
    decision: DecisionConstants
    guard: GuardConstants
    heat_map: HeatMapConstants
    precision: PrecisionConstants
    population: Population
    intended_use: str
    not_for: tuple[str, ...]
    training: dict[str, Any]
    metrics: dict[str, Any]
    reference: Reference | None = None
    finding_code: FindingCode | None = None
    export: Export | None = None

    @model_validator(mode="after")
    def _export_holds_the_weights(self) -> Self:
        weights = self.weights
        if self.export and self.export.files.get(weights.file) != weights.sha256:
            raise ValueError(f"export.files does not name {weights.file} with its SHA-256")
        if self.export and next(iter(self.export.files)) != weights.file:  # the one that is opened
            raise ValueError(f"export.files does not name {weights.file} first")
        return self

    @property
    def architecture(self) -> str:
        """The architectures of all members, for people."""
        return " + ".join(member.architecture for member in self.members)


def checked_labels(labels: tuple[str, str]) -> Labels:
    """The two labels, if a card may name them. Raises ModelError saying what is wrong."""
    try:
        return TypeAdapter(Labels).validate_python(labels)
    except ValidationError as error:
        raise ModelError(f"labels {' '.join(labels)}: {error.errors()[0]['msg']}") from error


def card_of(model: Path) -> Path:
    """Where the card of a model lies: in its folder, or beside an exported file."""
    if model.is_dir():
        return model / CARD_NAME
    return model.with_name(model.name + EXPORT_CARD_SUFFIX)


def read_card(model: Path) -> Card:
    """Read the card of a model folder or of an exported file.

    Raises ModelError when it is missing, not JSON, or breaks the schema (naming the key).
    """
    path = card_of(model)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{model} is no model: it has no {path.name}"
            + ("" if model.is_dir() else " beside it, as 'screen export' writes it")
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    try:
        return Card.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"{path}: {key + ': ' if key else ''}{message}") from error


def card_text(card: Card) -> str:
    """The card as JSON that people can read and diff."""
    return json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def write_card(card: Card, folder: Path) -> None:
    """Write the card of a model folder."""
    (folder / CARD_NAME).write_text(card_text(card), encoding="utf-8")
