"""A site's own threshold: an audit trail beside its configuration, each entry for one model only.

One JSON object a line, the newest last, never changed afterwards. An entry counts for exactly the
weights, calibration and preparation it was chosen with: on any other scale of probabilities the
same number would mean something else.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.cards import Card, DecisionConstants, Probability
from worker.config import Config
from worker.errors import ConfigError
from worker.filesystem import sync_folder, write_atomic
from worker.imaging.prepare import PREPARE_VERSION

Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rate(_Part):
    """A share of patients or films with its 95% interval, `None` where nothing can be counted."""

    hits: Count
    of: Count
    low: Probability | None
    high: Probability | None

    @property
    def value(self) -> float | None:
        """The share itself, `None` of nothing."""
        return self.hits / self.of if self.of else None


class Measured(_Part):
    """What a threshold did on the labelled films it was chosen from.

    `sensitivity` and `specificity` count patients, the `film_` rates films. `coverage` is the
    share of films answered, `risk` the share of wrong answers among them. Films that were refused
    or could not be read are in no rate.
    """

    sensitivity: Rate
    specificity: Rate
    film_sensitivity: Rate
    film_specificity: Rate
    coverage: Rate
    risk: Rate
    films: Count
    refused: Count
    unreadable: Count
    copies: Count
    films_sha256: Sha256


class Entry(_Part):
    """One decision of a site: `threshold` with its band, or, all `None`, back to the card's.

    `scores` names the scale of probabilities it holds for, see `scale_of`.
    """

    at: AwareDatetime
    who: str
    program: str
    model: str
    weights_sha256: Sha256
    scores: Sha256
    threshold: Probability | None
    indeterminate: tuple[Probability, Probability] | None
    target_sensitivity: Probability | None
    measured: Measured | None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        parts = (self.threshold, self.indeterminate, self.target_sensitivity, self.measured)
        if len({part is None for part in parts}) > 1:
            raise ValueError("threshold, band, target and measurement stand together or not at all")
        if self.threshold is not None and self.indeterminate is not None:
            low, high = self.indeterminate
            if not low <= self.threshold <= high:
                raise ValueError("the threshold must lie in its abstention band")
        return self


@dataclass(frozen=True)
class InUse:
    """The constants that decide here; `entry` is the site's, `None` where the card's count.

    `stranded`: the site has set a threshold, but for other weights or another calibration.
    """

    decision: DecisionConstants
    entry: Entry | None
    stranded: bool


STRANDED = "a site threshold was set for other weights or another calibration; the card's is in use"


def scale_of(card: Card) -> str:
    """One hexadecimal name for all that a probability depends on.

    Weights, labels, calibration, input constants and the version of decoding and preparing.
    """
    constants = card.model_dump_json(include={"labels", "input", "calibration"})
    text = f"{card.weights.sha256}{constants}prepare-{PREPARE_VERSION}"
    return hashlib.sha256(text.encode()).hexdigest()


def in_use(card: Card, config: Config) -> InUse:
    """What decides at this site: its last entry for exactly this model, else the card.

    Without a configuration file there is no site, and the card counts. Raises ConfigError when the
    trail is damaged.
    """
    trail = read_trail(config.model.thresholds) if config.source else []
    scale = scale_of(card)
    own = [entry for entry in trail if entry.scores == scale]
    if own and (decision := _decision(own[-1])):
        return InUse(decision, own[-1], stranded=False)
    stranded = not own and bool(trail) and trail[-1].threshold is not None
    return InUse(card.decision, None, stranded)


def read_trail(path: Path) -> list[Entry]:
    """Every entry, oldest first; none when there is no file.

    Raises ConfigError naming the line that is damaged: a threshold is never guessed.
    """
    try:
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read the site's thresholds {path}: {error.strerror}") from error
    if lines == [b""]:
        return []
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)]


def append_entry(path: Path, entry: Entry, mode: int) -> None:
    """Add an entry; the file is whole and on the disk, or as it was before.

    Raises ConfigError when what is there is damaged, OSError when it cannot be written.
    """
    with _alone(path):
        before = path.read_bytes().removesuffix(b"\n") + b"\n" if read_trail(path) else b""
        write_atomic(path, before + entry.model_dump_json().encode() + b"\n", mode, sync=True)
        sync_folder(path.parent)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep others from adding meanwhile: the file is replaced, and their entry would be lost."""
    lock = path.with_name(f".{path.name}.lock")
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _parse(path: Path, number: int, line: bytes) -> Entry:
    try:
        return Entry.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = f"{key}: {first['msg']}" if key else first["msg"]
        raise ConfigError(
            f"{path}:{number}: the entry is damaged ({what}): restore the file from a copy, or "
            "move it away and choose a threshold anew with 'screen models threshold'"
        ) from error


def _decision(entry: Entry) -> DecisionConstants | None:
    """The entry as constants that a card could have; `None` when it goes back to the card's."""
    if entry.threshold is None or entry.indeterminate is None or entry.measured is None:
        return None
    measured = entry.measured
    return DecisionConstants(
        threshold=entry.threshold,
        indeterminate=entry.indeterminate,
        chosen_on=(
            f"films of this site ({measured.sensitivity.of} patients with the finding, "
            f"{measured.specificity.of} without) on {entry.at:%Y-%m-%d}, to find at least "
            f"{entry.target_sensitivity:.3g} of the patients with the finding"
        ),
    )
