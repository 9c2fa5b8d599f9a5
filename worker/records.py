"""What is said of a film, in the words that scripts, database and reports share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the command line must not wait for it
    import numpy as np
    from numpy.typing import NDArray


Labels = tuple[str, str]  # the words of a model's card: (negative, positive)
Identity = Literal["off", "pseudonym", "clear"]  # what a site keeps of a patient


class Decision(StrEnum):
    """The four possible answers for a film.

    A model whose card has other labels says those instead of the first two.
    """

    PNEUMONIA = "PNEUMONIA"
    NORMAL = "NORMAL"
    INDETERMINATE = "INDETERMINATE"
    REFUSED = "REFUSED"


class Role(StrEnum):
    """What a decision means, whatever its words: all that code may branch on."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    INDETERMINATE = "indeterminate"
    REFUSED = "refused"


def role_of(decision: str, labels: Labels) -> Role:
    """The role of a decision by a model with these labels.

    Raises ValueError for words that this model does not say.
    """
    if decision in (Decision.INDETERMINATE, Decision.REFUSED):
        return Role(decision.lower())
    return (Role.NEGATIVE, Role.POSITIVE)[labels.index(decision)]


class Reason(StrEnum):
    """Why a film that could be decoded is refused all the same; slugs are stable."""

    NOT_A_CHEST_RADIOGRAPH = "not-a-chest-radiograph"
    WRONG_MODALITY = "wrong-modality"
    WRONG_BODY_PART = "wrong-body-part"
    LATERAL_VIEW = "lateral-view"
    MULTI_FRAME = "multi-frame"
    VETERINARY = "veterinary"
    TOO_SMALL = "too-small"
    BLANK = "blank-picture"
    POLARITY_UNSURE = "polarity-unsure"
    OUTSIDE_VALIDATED_POPULATION = "outside-validated-population"


@dataclass(frozen=True)
class Refusal:
    """A reason with one sentence for the reader."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Tags:
    """What a file says about its film; `None` where it says nothing.

    Names are DICOM keywords (PS3.6) in snake case; `patient_age_years` is PatientAge in years. The
    last four say who the patient is, and stay `None` unless a site wants them: `patient_key` is a
    keyed hash of the patient's ID (`worker.identity`).
    """

    modality: str | None = None
    view_position: str | None = None
    body_part_examined: str | None = None
    patient_age_years: float | None = None
    photometric_interpretation: str | None = None
    transfer_syntax_uid: str | None = None
    manufacturer: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    sop_class_uid: str | None = None
    study_date: str | None = None
    acquisition_date: str | None = None
    manufacturer_model_name: str | None = None
    device_serial_number: str | None = None
    software_versions: str | None = None
    station_name: str | None = None
    burned_in_annotation: str | None = None
    accession_number: str | None = None
    patient_name: str | None = None
    patient_id: str | None = None
    patient_key: str | None = None


IDENTIFYING = ("accession_number", "patient_name", "patient_id", "patient_key")  # of Tags


@dataclass(frozen=True)
class Patient:
    """Who a film says that its patient is, as far as the decoder was asked; never stored so."""

    patient_id: str | None = None
    issuer_of_patient_id: str | None = None
    patient_name: str | None = None
    accession_number: str | None = None


@dataclass(frozen=True)
class Film:
    """One decoded radiograph.

    `pixels` are MONOCHROME2 for display: uint8, 255 brightest, of JPEG and 8-bit PNG, else float32
    in [0, 1], 1 brightest. `rows` and `columns` are those of the film as it is shown; a
    large JPEG's `pixels` may have half of them (`imaging.raster`).
    `notes` say what the decoder had to assume; `refusal` is what tags or pixels already forbid.
    """

    pixels: NDArray[np.uint8] | NDArray[np.float32]
    format: str
    rows: int
    columns: int
    tags: Tags = Tags()
    notes: tuple[str, ...] = ()
    refusal: Refusal | None = None
    patient: Patient = Patient()


@dataclass(frozen=True)
class PreparedFilm:
    """A film as it leaves the decoder process: ready for the model and for the report.

    `sha256` is of the bytes that were decoded; `model_input` is float32 (size, size) in [0, 1];
    `picture` is a grey 8-bit JPEG for display.
    """

    sha256: str

    model_input: NDArray[np.float32]
    picture: bytes
    format: str
    rows: int
    columns: int
    tags: Tags
    notes: tuple[str, ...]
    refusal: Refusal | None
    patient: Patient = Patient()


@dataclass(frozen=True)
class Prediction:
    """What the network says of one film.

    `probability` is calibrated; `evidence` is float32 (h, w), each cell's part in the calibrated
    log-odds (see `models.explain`); `guard_score` and `not_chest_score` are in [0, 1], 0.5 at the
    guard's own limits.
    """

    probability: float
    evidence: NDArray[np.float32]
    guard_score: float
    not_chest_score: float


@dataclass(frozen=True)
class Examined:
    """A decoded film and what the network says of it; nothing is decided yet."""

    film: PreparedFilm
    prediction: Prediction


@dataclass(frozen=True)
class Record:
    """One record everywhere: `classify --json`, `query --json`, CSV columns, report pages.

    `decision` is one of the two labels of the model's card, INDETERMINATE or REFUSED.
    `probability` is the calibrated P(the positive label) in [0, 1] of every decoded film, refused
    ones too; `None` only if the film could not be decoded. `guard_score` is in [0, 1], higher =
    less like the films the model was validated on.
    """

    file: str
    sha256: str | None
    decision: str
    probability: float | None
    threshold: float
    guard_score: float | None
    guard_threshold: float
    reason: str | None
    message: str
    model: str
    weights_sha256: str


RECORD_FIELDS = tuple(field.name for field in fields(Record))

# What is said of a file that came to an end: new names go to the end.
RESULT_FIELDS = (
    *(*RECORD_FIELDS, "status", "source", "run", "page", "finished_at"),
    *("verdict", "finding", "review_note", "reviewer", "reviewed_at"),
)


@dataclass(frozen=True)
class Answered:
    """A film's record with what its page shows; `evidence` is the grid of its heat map."""

    record: Record
    film: PreparedFilm
    evidence: NDArray[np.float32]
