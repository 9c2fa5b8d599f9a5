"""One model, ready to screen: decoder processes, engine and decisions, without site or database."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Protocol
from weakref import ref

from models.cards import Card
from models.exports import load
from models.registry import find_model
from worker.config import Config, Dicom
from worker.errors import DecoderUnavailable, FilmError
from worker.export.engine import start_engine
from worker.identity import Patients
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.prepare import PREPARE_VERSION
from worker.imaging.raster import HALF_LONG_PX
from worker.imaging.sandbox import DecoderPool
from worker.inference.decide import decide
from worker.inference.predictor import Predictor, Predicts
from worker.labels import LABELS
from worker.memory import keep_freed_memory
from worker.records import Answered, Decision, Examined, Prediction, PreparedFilm, Record
from worker.thresholds import STRANDED, in_use
from worker.uids import model_identity

log = logging.getLogger(__name__)


class Decoders(Protocol):
    """What decodes films for a screener, as `DecoderPool` does."""

    def submit(self, path: Path) -> Future[PreparedFilm]:
        """Queue one film."""

    def close(self) -> None:
        """Stop at once."""


class Screener:
    """Decodes, predicts and decides. Close it to end its processes."""

    def __init__(
        self,
        config: Config,
        model_name: str | None = None,
        *,
        keep_patients: bool = False,
        new_decoders: Callable[[PrepareSettings, DecodeLimits, int], Decoders] = DecoderPool,
        cores: int | None = None,
    ) -> None:
        """Load and verify a model: `model_name` as typed, else the configured one.

        A folder typed on the command line is relative to the working directory, a configured
        one to its file. `card` decides with the site's own threshold where one was set for this
        very model. `keep_patients` is for results that a site stores: who the patient is, is then
        read and kept as `[dicom] identity` says, else never. `new_decoders` makes what decodes;
        on a CPU the network takes `cores`, else all. Raises ModelError or ConfigError.
        """
        keep_freed_memory()
        model = load(
            find_model(model_name) if model_name else find_model(config.model.name, config.root)
        )
        self.card = _with_site_threshold(model.card, config)
        self._outside_population = config.guard.outside_population
        self._picture_px = config.report.picture_px
        dicom = config.dicom if keep_patients else Dicom()
        self._patients = Patients(dicom)
        constants = model.card.input
        self._pool = new_decoders(
            PrepareSettings(
                size_px=constants.size_px,
                stretch_low=constants.low_percentile,
                stretch_high=constants.high_percentile,
                picture_px=config.report.picture_px,
                quality=config.report.quality,
                identity=dicom.identity,
            ),
            DecodeLimits.from_config(config.decode),
            config.decode.process_count,
        )
        try:  # decoders and network are made ready at the same time
            self.engine: Predicts = start_engine(model, config.model, cores=cores)
        except BaseException:
            self._pool.close()
            raise
        self._predictor = Predictor(self.engine, config.batch.size)

    @cached_property
    def preprocessing(self) -> str:
        """All that turns a film into a decision beside the weights; part of a result's identity.

        The version of decoding and preparing, and a digest of the card's constants and the site's
        policy: a moved threshold must not hide behind answers that were given with the old one.
        """
        parts = {"input", "calibration", "decision", "guard", "population"}
        if self.card.labels != LABELS:  # the usual ones stay out: results of before still count
            parts.add("labels")
        constants = self.card.model_dump_json(include=parts) + self._outside_population
        digest = hashlib.sha256(constants.encode()).hexdigest()
        whole = "/whole" if self._picture_px > HALF_LONG_PX // 2 else ""  # see imaging.raster
        return f"prepare-{PREPARE_VERSION}{whole}/constants-{digest[:16]}"

    @cached_property
    def identity(self) -> str:
        """One hexadecimal name for weights and preprocessing together."""
        return model_identity(self.card.weights.sha256, self.preprocessing)

    def examine(self, path: Path) -> Future[Examined]:
        """Begin to decode a film in a process of its own and to predict it then.

        The future raises FilmError for what is wrong with the film, and what `Engine.predict`
        raises.
        """
        examined: Future[Examined] = Future()
        decoded = self._pool.submit(path)
        waiting = ref(decoded)  # weak: two futures that hold each other would hold their film

        def cancel(_examined: Future[Examined]) -> None:
            if (still := waiting()) is not None:
                still.cancel()

        examined.add_done_callback(cancel)
        decoded.add_done_callback(lambda done: self._predict(done, examined))
        return examined

    def _predict(self, decoded: Future[PreparedFilm], examined: Future[Examined]) -> None:
        """Go on with a decoded film, or with why there is none."""
        if not examined.set_running_or_notify_cancel():
            return
        if decoded.cancelled():
            examined.set_exception(DecoderUnavailable("the decoder pool was closed"))
            return
        if (error := decoded.exception()) is not None:
            examined.set_exception(error)
            return
        film = self._patients.known(decoded.result())

        def tell(predicted: Future[Prediction]) -> None:
            try:
                examined.set_result(Examined(film, predicted.result()))
            except BaseException as error:  # the future carries it to whoever waits
                examined.set_exception(error)

        self._predictor.submit(film.model_input).add_done_callback(tell)

    def answer(
        self, films: Sequence[Examined], files: Sequence[str], contents: Sequence[str]
    ) -> list[Answered]:
        """Decide on examined films, given their names and SHA-256, in order."""
        answers = []
        for examined, file, sha256 in zip(films, files, contents, strict=True):
            film, prediction = examined.film, examined.prediction
            verdict = decide(
                prediction, self.card, film.refusal, film.tags, self._outside_population
            )
            record = Record(
                file=file,
                sha256=sha256,
                decision=verdict.decision,
                probability=prediction.probability,
                threshold=self.card.decision.threshold,
                guard_score=prediction.guard_score,
                guard_threshold=self.card.guard.threshold,
                reason=verdict.reason,
                message=verdict.message,
                model=self.card.name,
                weights_sha256=self.card.weights.sha256,
            )
            answers.append(Answered(record, film, prediction.evidence))
        return answers

    def failure(self, file: str, sha256: str | None, error: FilmError) -> Record:
        """The record of a film that could not be decoded."""
        return Record(
            file=file,
            sha256=sha256,
            decision=Decision.REFUSED,
            probability=None,
            threshold=self.card.decision.threshold,
            guard_score=None,
            guard_threshold=self.card.guard.threshold,
            reason=error.slug,
            message=str(error),
            model=self.card.name,
            weights_sha256=self.card.weights.sha256,
        )

    def close(self) -> None:
        """End the decoder processes and the threads that predict."""
        self._pool.close()
        self._predictor.close()


def _with_site_threshold(card: Card, config: Config) -> Card:
    """The card, deciding as the site has chosen for exactly this model, if it has."""
    used = in_use(card, config)
    if used.stranded:
        log.warning(STRANDED, extra={"model": card.name})
    return card.model_copy(update={"decision": used.decision})
