"""The pages people open: one per film, and the worklist over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from worker.records import Decision, Tags, role_of
from worker.report import histogram, overlay, text, wording, worklist
from worker.report.environment import data_uri, render
from worker.report.view import FilmView, ModelFacts, RunView, WorklistRow
from worker.store.runs import Spread
from worker.store.worklist import Counts

BURNED_IN = (
    "text is burned into the picture (BurnedInAnnotation YES): it may say who the patient is, here "
    "and wherever the picture is shown"
)


@dataclass(frozen=True)
class HeatMap:
    """The drawn evidence of one film.

    `peak` is its hottest cell in log-odds, `at` that cell's place in percent of the scale.
    """

    uri: Markup
    peak: float
    at: float


def film_page(view: FilmView, *, served: bool = False, **more: Any) -> str:
    """Render the page of one screened film; it stands below reports/ at `view.page`.

    `served` by `screen serve` it has a form for reviews; `more` is for that.
    Raises ValueError when the evidence cannot be drawn.
    """
    refused = view.record.decision == Decision.REFUSED
    return render(
        "review.html" if served else "film.html",
        scripts=("viewer.js", "film.js"),
        served=served,
        **more,
        view=view,
        record=view.record,
        model=view.model,
        tags=_tags(view),
        remarks=_remarks(view),
        previous=[(film, role_of(film.decision, film.labels)) for film in view.previous],
        picture=data_uri("image/jpeg", view.picture),
        heat=_heat(view),
        heat_caveat=wording.INT8_HEAT_MAP if view.model.is_int8 else "",
        legend=overlay.legend(),
        role=role_of(view.record.decision, view.model.labels),
        meaning=wording.meaning(view.record, view.model.labels),
        why=wording.why(view.record, view.model, view.tags),
        refused=refused,
        doubtful=refused or view.record.reason is not None,
        top="../" * view.page.count("/"),
    )


def worklist_pages(
    rows: Sequence[WorklistRow],
    runs: Sequence[RunView],
    model: ModelFacts | None,
    generated_at: datetime,
    counts: Counts | None = None,
    spread: Spread | None = None,
) -> dict[str, str]:
    """Render the worklist: file name below reports/ → page, `index.html` first.

    `rows` hold every file fed in, failures and duplicates too, in any order. `model` is the one
    in use; rows that another answered say so. `None` when no model was loaded yet. `counts` are
    those of all results where `rows` hold only the most urgent. `spread` counts the films that
    `model` answered by decision and score.
    """
    pages = worklist.pages(rows, counts=counts)
    tiles = worklist.tiles(pages, counts)
    sides = histogram.by_role(spread or {}, model.labels) if model else {}
    drawn = None
    if model and sides:
        drawn = histogram.scores(sides, model.threshold, model.indeterminate, model.labels)
    shared: dict[str, Any] = {
        "pages": pages,
        "tiles": tiles,
        "scores": drawn,
        "unscored": worklist.unscored(tiles, sides),
        "newest": worklist.newest(rows),
        "reviews": any(row.verdict for row in rows),
        "total": len(rows),
        "counts": counts,
        "duplicates": sum(row.status == "duplicate" for row in rows),
        "runs": sorted(runs, key=lambda run: run.run, reverse=True),
        "model": model,
        "generated_at": generated_at,
        "sorting": wording.sorting(pages[0].groups),
    }
    return {
        page.name: render("worklist.html", scripts=("worklist.js",), page=page, **shared)
        for page in pages
    }


def _heat(view: FilmView) -> HeatMap | None:
    if view.evidence is None:
        return None
    scale = view.model.evidence_scale
    peak = overlay.peak(view.evidence)
    png = overlay.heat_png(view.evidence, scale)
    return HeatMap(data_uri("image/png", png), peak, 100 * min(max(peak / scale, 0), 1))


def _tags(view: FilmView) -> list[tuple[str, str]]:
    """What the file says about its film, for reading; what it does not say is left out."""
    tags = view.tags
    age = tags.patient_age_years
    named = (
        ("Patient", tags.patient_name),
        ("Patient ID", tags.patient_id),
        ("Accession number", tags.accession_number),
        ("Study date", tags.study_date),
        ("View", tags.view_position),
        ("Modality", tags.modality),
        ("Body part", tags.body_part_examined),
        ("Age", None if age is None else text.age(age)),
        ("Equipment", _equipment(tags)),
        ("Photometric", tags.photometric_interpretation),
        ("Transfer syntax", tags.transfer_syntax_uid),
    )
    return [(name, value) for name, value in named if value]


def _equipment(tags: Tags) -> str:
    """Maker and model, where one does not name the other, and the station."""
    maker, model = tags.manufacturer or "", tags.manufacturer_model_name or ""
    named = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
    return ", ".join(filter(None, (named or maker, tags.station_name)))


def _remarks(view: FilmView) -> list[str]:
    """What the reader should know of the file: what was assumed, and what stands in the picture."""
    if (view.tags.burned_in_annotation or "").upper() != "YES":
        return list(view.notes)
    return [*view.notes, BURNED_IN]
