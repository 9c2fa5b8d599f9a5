"""The readers' reviews of a site as truth: which films they label, and what that is worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from models.cards import Card
from worker.errors import NothingRead, UsageError
from worker.evaluate.page import WrongFilm, most_wrong
from worker.evaluate.sample import Scored
from worker.labels import group_and_domain
from worker.report.overlay import blend, shrink
from worker.report.text import filename, short
from worker.report.view import is_int8
from worker.store.queries import stored_screening
from worker.store.reviewed import ReviewedAnswer, card_and_films, reviewed_answers


@dataclass(frozen=True)
class ReviewedFilms:
    """Films of one model that readers labelled, and how many there are besides.

    `films` are all that this model answered, `without_finding` those of the reviewed ones whose
    newest review does not say what was seen, `other_models` reviewed answers of other weights,
    thresholds or preparations. `screening_ids` are by the content's SHA-256.
    """

    scored: list[Scored]
    card: Card
    screening_ids: dict[str, int]
    films: int
    without_finding: int
    other_models: int

    def to_json(self) -> dict[str, int]:
        """The object `reviews` of `evaluate --json`."""
        return {
            "films": self.films,
            "reviewed": len(self.scored) + self.without_finding,
            "without_finding": self.without_finding,
            "other_models": self.other_models,
        }

    @property
    def remark(self) -> str:
        """What a reader of the numbers must know."""
        return (
            f"Labels are readers' reviews: {len(self.scored):,} of {self.films:,} films that this "
            f"model screened. Left out: {self.without_finding:,} reviewed without a finding, "
            f"{self.other_models:,} of other models or settings. Readers look first at what is "
            "suspicious, and they knew the answer: this is no random sample, and sensitivity and "
            "specificity are of the reviewed films only. Which films are of one patient is known "
            "from DICOM studies and guessed from other files' names, as in the Kermany set; any "
            "other film counts as a patient of its own."
        )


def reviewed_films(engine: Engine, weights: str | None = None) -> ReviewedFilms:
    """The reviewed films of one model: that of the newest review, or the newest with `weights`.

    `weights` begin the SHA-256 of its file. Raises NothingRead when no review says what was seen,
    UsageError when none is of these weights.
    """
    answers = list(reviewed_answers(engine))
    if not answers:
        raise NothingRead("no answer has been reviewed: there is nothing to measure with")
    model_id = _model_id(answers, weights)
    card, films = card_and_films(engine, model_id)
    mine = [answer for answer in answers if answer.model_id == model_id]
    labelled = [(each, each.finding) for each in mine if each.finding is not None]
    if not labelled:
        raise NothingRead(
            f"none of the {len(mine)} reviewed answers of {card.name} says what was seen: there is "
            "nothing to measure with"
        )
    return ReviewedFilms(
        scored=[Scored(each.record, label, _patient(each, label)) for each, label in labelled],
        card=card,
        screening_ids={str(each.record.sha256): each.screening_id for each in mine},
        films=films,
        without_finding=len(mine) - len(labelled),
        other_models=len(answers) - len(mine),
    )


def _model_id(answers: Sequence[ReviewedAnswer], weights: str | None) -> int:
    for answer in reversed(answers):
        if weights is None or answer.record.weights_sha256.startswith(weights):
            return answer.model_id
    models = {f"{each.record.model} {short(each.record.weights_sha256)}" for each in answers}
    raise UsageError(
        f"no reviewed answer is of weights {short(str(weights))}; reviewed are those of "
        f"{', '.join(sorted(models))}"
    )


def _patient(answer: ReviewedAnswer, label: str) -> str:
    """Films of one study are of one patient; of other films a name may say it, else the whole path.

    In two folders `001.jpg` are two patients.
    """
    name = filename(answer.record.file)
    named, _ = group_and_domain(name, label)
    return answer.study_instance_uid or (answer.record.file if named == name else named)


def wrong_films(
    engine: Engine, reviewed: ReviewedFilms, reports: Path, count: int, side_px: int
) -> list[WrongFilm]:
    """The films it got most wrong, with their stored pictures, which retention may have removed."""
    scale = reviewed.card.heat_map.evidence_scale
    wrong = []
    for film in most_wrong(reviewed.scored, count, reviewed.card.labels):
        stored = stored_screening(engine, reviewed.screening_ids[str(film.record.sha256)])
        picture = overlay = None
        if (reports / stored.picture).is_file():
            picture = shrink((reports / stored.picture).read_bytes(), side_px)
            if not is_int8(reviewed.card):  # whose maps may be far off
                overlay = blend(picture, stored.evidence, scale, 1.0)
        wrong.append(WrongFilm(film.record, film.label, picture, overlay))
    return wrong
