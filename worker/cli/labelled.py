"""Labelled films on the command line: how they are named, and screened."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from worker.config import Config
    from worker.evaluate.sample import Scored
    from worker.labels import LabelledFilm
    from worker.records import Labels
    from worker.screening import Screener


def labels_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--labels`: a table instead of class folders."""
    return click.option(
        "--labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="CSV with file,label[,group] instead of class folders; files relative to FOLDER.",
    )(command)


def labelled_films(folder: Path, labels: Path | None, words: "Labels") -> "list[LabelledFilm]":
    """The films of class folders or of a table, in the words of the model. Raises UsageError."""
    from worker.labels import class_folders, labels_csv

    return list(labels_csv(labels, folder, words) if labels else class_folders(folder, words))


def score(
    screener: "Screener", films: "Sequence[LabelledFilm]", config: "Config"
) -> "list[Scored]":
    """Screen labelled films, in their order."""
    from worker.classify import classify
    from worker.cli.progress import bar
    from worker.evaluate.sample import Scored

    paths = (film.path for film in films)
    found = classify(screener, paths, config.batch.size, config.decode.max_file_mb)
    scored = []
    with bar("", len(films), "film") as shown:
        for film, one in zip(films, found, strict=True):
            scored.append(Scored(one.record, film.label, film.group))
            shown.update()
    return scored
