"""A screener without processes and without a network, for tests of everything around it."""

import hashlib
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from models.cards import (
    Calibration,
    Card,
    DecisionConstants,
    GuardConstants,
    HeatMapConstants,
    InputConstants,
    Population,
    PrecisionConstants,
    WeightsFile,
)
from worker.errors import FilmError
from worker.records import (
    Answered,
    Decision,
    Examined,
    Prediction,
    PreparedFilm,
    Record,
    Tags,
)

SMALL_PX = 96  # input of the test model: the network runs in milliseconds


def make_card(**changes: object) -> Card:
    """A complete card; keywords replace whole parts."""
    values = {
        "name": "tiny",
        "version": "0",
        "members": ({"architecture": "mobilenet_v2", "mean": 0.449, "std": 0.226},),
        "labels": ("NORMAL", "PNEUMONIA"),
        "weights": WeightsFile(file="weights.safetensors", sha256="cd" * 32),
        "input": InputConstants(size_px=SMALL_PX, low_percentile=1, high_percentile=99),
        "calibration": Calibration(slope=2.0, offset=-0.5, fitted_on="nothing"),
        "decision": DecisionConstants(threshold=0.6, indeterminate=(0.5, 0.7), chosen_on="-"),
        "guard": GuardConstants(threshold=0.5, fitted_on="nothing"),
        "heat_map": HeatMapConstants(evidence_scale=4.0),
        "precision": PrecisionConstants(
            bfloat16_decisions_changed=0, bfloat16_mean_probability_change=0.001
        ),
        "population": Population(description="children", min_age_years=1, max_age_years=5),
        "intended_use": "tests",
        "not_for": ("patients",),
        "training": {},
        "metrics": {},
    }
    return Card.model_validate({**values, **changes})


def exported_card(
    form: str, precision: str = "float32", others: tuple[str, ...] = (), **changes: object
) -> Card:
    """The card of an export of that tiny model, which has these files besides its main one."""
    about = {
        "format": form,
        "precision": precision,
        "source_sha256": "ab" * 32,
        "files": dict.fromkeys(("weights.safetensors", *others), "cd" * 32),
        "made_with": {},
        "parity": {
            "films": 8,
            "of": "noise",
            "probability": 0.0,
            "heat_map": 0.0,
            "guard_score": 0.0,
            "forced_choices_changed": 0,
            "abstentions_changed": 0,
            "guard_decisions_changed": 0,
        },
    }
    return make_card(export=about, **changes)


class StandInScreener:
    """Answers like `worker.screening.Screener`, without processes and without a network.

    `errors` maps contents to the errors their decoding raises in turn; the last one stays.
    """

    def __init__(self, card: Card) -> None:
        self.card, self.preprocessing, self.identity = card, "prepare-1/constants-0", "ef" * 32
        self.engine = SimpleNamespace(place="cpu", precision="float32", note=None)
        self.errors: dict[bytes, list[FilmError | None]] = {}
        self.decoded: list[str] = []
        self.answered: list[list[str]] = []

    def examine(self, path: Path) -> "Future[Examined]":
        """Any content is a film, unless `errors` says otherwise."""
        self.decoded.append(path.name)
        future: Future[Examined] = Future()
        content = path.read_bytes()
        errors = self.errors.get(content, [None])
        error = errors.pop(0) if len(errors) > 1 else errors[0]
        if error is None:
            future.set_result(examined_film(content))
        else:
            future.set_exception(error)
        return future

    def answer(self, films, files, contents):
        """The probability of each film decides."""
        if films:
            self.answered.append(list(files))
        return [
            Answered(self._record(file, each), each.film, each.prediction.evidence)
            for each, file, _ in zip(films, files, contents, strict=True)
        ]

    def _record(self, file: str, examined: Examined) -> Record:
        probability, sha256 = examined.prediction.probability, examined.film.sha256
        above = probability >= self.card.decision.threshold
        return Record(
            file=file,
            sha256=sha256,
            decision=Decision.PNEUMONIA if above else Decision.NORMAL,
            probability=probability,
            threshold=self.card.decision.threshold,
            guard_score=0.25,
            guard_threshold=self.card.guard.threshold,
            reason=None,
            message="made up",
            model=self.card.name,
            weights_sha256=self.card.weights.sha256,
        )

    def close(self) -> None:
        """Nothing to close."""


def prepared_film(content: bytes) -> PreparedFilm:
    """What a decoder would make of some content."""
    _, picture = cv2.imencode(".jpg", np.full((8, 8), content[0] if content else 0, np.uint8))
    pixels = np.zeros((SMALL_PX, SMALL_PX), np.float32)
    sha256 = hashlib.sha256(content).hexdigest()
    return PreparedFilm(sha256, pixels, picture.tobytes(), "JPEG", 8, 8, Tags(), (), None)


def examined_film(content: bytes) -> Examined:
    """What decoder and network would make of some content: its SHA-256's first byte decides."""
    film = prepared_film(content)
    probability = int(film.sha256[:2], 16) / 255
    return Examined(film, Prediction(probability, np.full((3, 3), 0.5, np.float32), 0.25, 0.25))
