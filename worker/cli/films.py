"""Commands that look at films where they lie: `screen classify`, `screen evaluate`."""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli import style
from worker.cli.completion import complete_model
from worker.cli.labelled import labelled_films, labels_option, score
from worker.cli.options import (
    EXISTING,
    OUTPUT,
    Unlisted,
    chosen_config,
    config_option,
    engine_option,
    require_folders,
    stoppable,
    with_engine,
)
from worker.folders import display_name, regular_files
from worker.records import Decision, Labels
from worker.report.text import printable

if TYPE_CHECKING:
    from models.cards import Card
    from worker.classify import Classified
    from worker.config import Config
    from worker.evaluate.page import WrongFilm
    from worker.evaluate.sample import Scored
    from worker.screening import Screener

_MOST_WRONG = 12
_THUMBNAIL_PX = 256
_STEM_BYTES = 80  # of a film's name in that of its overlay


@click.command()
@click.argument("paths", nargs=-1, required=True, type=EXISTING)
@click.option("--json", "as_json", is_flag=True, help="JSON Lines on stdout, one record a file.")
@click.option(
    "--overlay",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write film and heat map blended, one JPEG a film, into this folder.",
)
@click.option(
    "--model",
    help="A shipped model's name, a model folder, or an exported file.",
    shell_complete=complete_model,
)
@engine_option
@config_option
def classify(
    paths: tuple[Path, ...],
    as_json: bool,
    overlay: Path | None,
    model: str | None,
    engine: str | None,
    config_file: Path | None,
) -> None:
    """Look quickly at films and folders; no site and no database are needed or changed.

    Exit code 3 says that some films could not be read.

    \b
    Examples:
      screen classify film.dcm
      screen classify films/ --json --overlay overlays/
      screen classify films/ --engine onnx --model exports/my-model.onnx
    """
    from worker.classify import classify as run_classify
    from worker.cli.progress import bar, is_shown, say
    from worker.intake.archive import count_files
    from worker.screening import Screener

    config = with_engine(chosen_config(config_file), engine, model)
    unread, looked, unlisted = 0, 0, Unlisted()
    total = sum(count_files(path, unlisted) for path in paths) if is_shown() else 0
    with (
        stoppable(lambda: f"{looked} of the files were looked at; nothing was changed"),
        closing(Screener(config, model)) as screener,
        bar("", total, "film") as shown,
    ):
        if overlay:
            _require_heat_maps(screener.card)
            _make_folder(overlay, int(config.site.dir_mode, 8))
        files = chain.from_iterable(regular_files(path, unlisted) for path in paths)
        found = run_classify(screener, files, config.batch.size, config.decode.max_file_mb)
        for one in found:
            say(json.dumps(asdict(one.record)) if as_json else _line(one, screener.card.labels))
            if overlay and one.film is not None:
                _write_overlay(overlay, one, screener.card, int(config.site.file_mode, 8))
            unread += one.film is None and one.record.reason != "not-a-film"
            looked += 1
            shown.update()
    if unread:
        click.echo(f"screen: {unread} files could not be read, see above", err=True)
    if unread or unlisted.folders:
        sys.exit(3)


def _line(one: "Classified", labels: Labels) -> str:
    record = one.record
    score = "  –  " if record.decision == Decision.REFUSED else f"{record.probability:.3f}"
    why = f"  {record.reason}: {printable(record.message)}" if record.reason else ""
    return f"{style.decision(record.decision, labels, 13)} {score}  {printable(record.file)}{why}"


def _require_heat_maps(card: "Card") -> None:
    """Refuse what could be drawn only wrongly: no words stand beside a JPEG that is passed on."""
    from worker.report.view import is_int8

    if is_int8(card):
        raise click.UsageError(
            f"--overlay: {card.weights.file} is an int8 file, whose heat maps may be off by half "
            "of their scale and more: name the float32 file, or leave --overlay out"
        )


def _make_folder(folder: Path, mode: int) -> None:
    """Make a folder for films of patients: closed to the world from the first moment."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=mode & 0o770)
        each.chmod(mode)


def _overlay_name(path: Path, sha256: str) -> str:
    """The film's name, its content, no folder; within 255 bytes whatever the name is made of."""
    stem = os.fsdecode(os.fsencode(path.stem)[:_STEM_BYTES])
    return f"{display_name(Path(stem))[:_STEM_BYTES]}-{sha256[:12]}.jpg"


def _write_overlay(folder: Path, one: "Classified", card: "Card", file_mode: int) -> None:
    from worker.filesystem import write_atomic
    from worker.report.overlay import blend

    if one.film is None or one.evidence is None:
        return
    name = _overlay_name(one.path, str(one.record.sha256))
    jpeg = blend(one.film.picture, one.evidence, card.heat_map.evidence_scale, 1.0)
    write_atomic(folder / name, jpeg, file_mode)


@click.command()
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@labels_option
@click.option("--reviews", is_flag=True, help="Instead of FOLDER: what readers said at this site.")
@click.option(
    "--model",
    help="A shipped model's name, a model folder or an exported file; with --reviews also the "
    "beginning of its weights' SHA-256, else that of the newest review.",
    shell_complete=complete_model,
)
@engine_option
@click.option(
    "--json",
    "json_file",
    type=OUTPUT,
    help="Write metrics, curves and the most wrong films as JSON.",
)
@click.option("--predictions", type=OUTPUT, help="Write a CSV, one row a film.")
@click.option("--html", type=OUTPUT, help="Write one page with figures.")
@config_option
def evaluate(
    folder: Path | None,
    labels: Path | None,
    reviews: bool,
    model: str | None,
    engine: str | None,
    json_file: Path | None,
    predictions: Path | None,
    html: Path | None,
    config_file: Path | None,
) -> None:
    """Measure a model on labelled films: FOLDER/NORMAL and FOLDER/PNEUMONIA, or --labels.

    A model with labels of its own takes class folders and a CSV with those.
    --reviews takes the answers that readers of this site reviewed, as they were given, and what
    they saw: films that were chosen by nobody, so mind what is said about them.
    Prints precision, recall and F1 per class; intervals are 95%, by a bootstrap over patients.

    \b
    Examples:
      screen evaluate test/
      screen evaluate films/ --labels truth.csv --json result.json --html result.html
      screen evaluate --reviews --html result.html
    """
    config = chosen_config(config_file)
    require_folders(json_file, predictions, html)
    outputs = _Outputs(json_file, predictions, html, int(config.site.file_mode, 8))
    if reviews:
        if folder or labels or engine:
            raise click.UsageError(
                "--reviews measures answers that were given here: it takes no FOLDER, no --engine"
            )
        _evaluate_reviews(config.require_site(), model, outputs)
    elif folder:
        _evaluate_folder(with_engine(config, engine, model), folder, labels, model, outputs)
    else:
        raise click.UsageError("name a FOLDER of labelled films, or --reviews")


@dataclass(frozen=True)
class _Outputs:
    json_file: Path | None
    predictions: Path | None
    html: Path | None
    mode: int


def _evaluate_folder(
    config: "Config", folder: Path, labels: Path | None, model: str | None, outputs: _Outputs
) -> None:
    from worker.screening import Screener

    with (
        stoppable(lambda: "nothing was measured or written; the same command begins anew"),
        closing(Screener(config, model)) as screener,
    ):
        scored = score(screener, labelled_films(folder, labels, screener.card.labels), config)
        _report(
            scored,
            screener.card,
            outputs,
            source=str(labels or folder),
            wrong=lambda: _wrong(screener, scored, config.batch.size, config.decode.max_file_mb),
        )


def _evaluate_reviews(config: "Config", model: str | None, outputs: _Outputs) -> None:
    from worker.evaluate.reviewed import reviewed_films, wrong_films
    from worker.site import read_site

    with read_site(config) as engine:
        reviewed = reviewed_films(engine, _weights(model, config.root) if model else None)
        _report(
            reviewed.scored,
            reviewed.card,
            outputs,
            source=f"reviews at {config.root}",
            wrong=lambda: wrong_films(
                engine, reviewed, config.site.reports, _MOST_WRONG, _THUMBNAIL_PX
            ),
            remark=reviewed.remark,
            more={"reviews": reviewed.to_json()},
        )
    click.echo(f"screen: {reviewed.remark}", err=True)


def _weights(model: str, root: Path) -> str:
    """SHA-256 of a model's weights; a word that names none is the beginning of one."""
    from models.cards import read_card
    from models.errors import UnknownModel
    from models.registry import find_model

    try:
        return read_card(find_model(model, root)).weights.sha256
    except UnknownModel:
        if re.fullmatch("[0-9a-f]{6,64}", model):
            return model
        raise


def _report(
    scored: "list[Scored]",
    card: "Card",
    outputs: _Outputs,
    *,
    source: str,
    wrong: Callable[[], "list[WrongFilm]"],
    remark: str = "",
    more: Mapping[str, object] | None = None,
) -> None:
    """Measure, print, and write what was asked for."""
    from worker.evaluate.details import details
    from worker.evaluate.metrics import evaluate as measure
    from worker.evaluate.page import evaluation_page
    from worker.evaluate.tables import predictions_csv, summary

    evaluation = measure(scored, labels=card.labels)
    click.echo(summary(evaluation))
    if outputs.json_file:
        drawn = details(scored, evaluation.forced.threshold, _MOST_WRONG, card.labels)
        found = evaluation.to_json() | drawn | dict(more or {})
        _write(outputs.json_file, json.dumps(found, indent=2) + "\n", outputs.mode)
    if outputs.predictions:
        _write(outputs.predictions, predictions_csv(scored), outputs.mode)
    if outputs.html:
        page = evaluation_page(
            evaluation,
            scored,
            wrong(),
            source=source,
            band=card.decision.indeterminate,
            chosen_on=card.decision.chosen_on,
            remark=remark,
        )
        _write(outputs.html, page, outputs.mode)


def _write(path: Path, text: str, mode: int) -> None:
    """Write a result as it is, whatever the platform thinks of line ends, not for the world."""
    from worker.filesystem import output

    with output(path, mode) as file:
        file.write(text.encode("utf-8"))


def _wrong(
    screener: "Screener", scored: Sequence["Scored"], batch_size: int, max_file_mb: int
) -> list["WrongFilm"]:
    """The films it got most wrong, screened again for their pictures: few, so cheap."""
    from worker.classify import classify as run_classify
    from worker.evaluate.page import WrongFilm, most_wrong
    from worker.report.overlay import blend, shrink
    from worker.report.view import is_int8

    films = most_wrong(scored, _MOST_WRONG, screener.card.labels)
    paths = [Path(film.record.file) for film in films]
    found = run_classify(screener, paths, batch_size, max_file_mb)
    scale = screener.card.heat_map.evidence_scale
    wrong = []
    for film, one in zip(films, found, strict=True):
        picture = overlay = None
        if one.film is not None and one.evidence is not None:
            picture = shrink(one.film.picture, _THUMBNAIL_PX)
            if not is_int8(screener.card):
                overlay = blend(picture, one.evidence, scale, 1.0)
        wrong.append(WrongFilm(film.record, film.label, picture, overlay))
    return wrong
