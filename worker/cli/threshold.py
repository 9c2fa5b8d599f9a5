"""`screen models threshold`: the site's own operating point, with its audit trail."""

import os
import pwd
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.labelled import labelled_films, labels_option, score
from worker.cli.options import chosen_config, config_option, stoppable
from worker.errors import UsageError

if TYPE_CHECKING:
    from models.cards import Card
    from worker.config import Config
    from worker.evaluate.operating_point import OperatingPoint
    from worker.thresholds import Entry, Rate


@click.command()
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@labels_option
@click.option(
    "--sensitivity",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Share of the patients with the finding to be found.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be set, and store nothing.")
@click.option("--show", is_flag=True, help="List what was ever set here, oldest first.")
@click.option("--reset", is_flag=True, help="Go back to the threshold of the model's card.")
@config_option
def threshold(
    folder: Path | None,
    labels: Path | None,
    sensitivity: float,
    dry_run: bool,
    show: bool,
    reset: bool,
    config_file: Path | None,
) -> None:
    """Set the site's own threshold from its own labelled films: FOLDER/NORMAL, FOLDER/PNEUMONIA.

    The highest threshold at which the wanted share of the patients with the finding have all their
    films called; it needs 30 patients of each class. It holds for the configured model with exactly
    these weights and this calibration, for every command, from the worker's next start on. The
    intervals are 95%. See docs/THRESHOLDS.md.

    \b
    Examples:
      screen models threshold films/ --sensitivity 0.97 --dry-run
      screen models threshold films/ --labels truth.csv
      screen models threshold --show
      screen models threshold --reset
    """
    from models.cards import read_card
    from models.registry import find_model

    if [folder is not None, show, reset].count(True) != 1:
        raise click.UsageError("name a FOLDER of labelled films, or --show, or --reset")
    config = chosen_config(config_file)
    if not (config.source or dry_run):
        raise UsageError(
            "a threshold of its own belongs to a site: run this beside its config.toml, or name "
            "that with --config"
        )
    card = read_card(find_model(config.model.name, config.root))
    if folder:
        _choose(config, card, folder, labels, sensitivity, dry_run)
    elif reset:
        _reset(config, card, dry_run)
    else:
        _show(config, card)


def _choose(
    config: "Config",
    card: "Card",
    folder: Path,
    labels: Path | None,
    target: float,
    dry_run: bool,
) -> None:
    from worker.evaluate.operating_point import choose
    from worker.screening import Screener

    films = labelled_films(folder, labels, card.labels)
    with (
        stoppable(lambda: "nothing was stored, the threshold is as it was"),
        closing(Screener(config)) as screener,
    ):
        point = choose(score(screener, films, config), card.decision, target, labels=card.labels)
    entry = _entry(card, point, target)
    for line in _lines(entry, card):
        click.echo(line)
    if point.every_film_a_patient:
        click.echo(
            "Every film counts as a patient of its own. If patients have several, name them in the "
            "column 'group' of --labels, or the intervals are too narrow."
        )
    if dry_run:
        click.echo("Nothing was stored.")
    else:
        _store(config, entry)


def _reset(config: "Config", card: "Card", dry_run: bool) -> None:
    from worker.thresholds import in_use

    used = in_use(card, config)
    if used.entry is None and not used.stranded:
        click.echo(f"The card's threshold {card.decision.threshold:.3f} is in use already.")
        return
    click.echo(f"threshold     {card.decision.threshold:.3f}, the card's")
    if dry_run:
        click.echo("Nothing was stored.")
    else:
        _store(config, _entry(card, None, None))


def _show(config: "Config", card: "Card") -> None:
    from worker.thresholds import STRANDED, in_use, read_trail, scale_of

    used, scale = in_use(card, config), scale_of(card)
    for entry in read_trail(config.model.thresholds):
        other = "" if entry.scores == scale else ", other weights or calibration: not in use"
        click.echo(
            f"{entry.at:%Y-%m-%d %H:%M:%S} UTC by {entry.who}, {entry.model}, "
            f"weights {entry.weights_sha256[:12]}{other}"
        )
        for line in _lines(entry, card):
            click.echo(f"  {line}")
    if used.stranded:
        click.echo(f"screen: {STRANDED}", err=True)
    source = "the site's" if used.entry else "the card's"
    click.echo(f"In use: {used.decision.threshold:.3f}, {source}, for {card.name}")


def _entry(card: "Card", point: "OperatingPoint | None", target: float | None) -> "Entry":
    from worker import __version__
    from worker.thresholds import Entry, scale_of

    return Entry(
        at=datetime.now(UTC).replace(microsecond=0),
        who=_user(),
        program=__version__,
        model=card.name,
        weights_sha256=card.weights.sha256,
        scores=scale_of(card),
        threshold=point.threshold if point else None,
        indeterminate=point.indeterminate if point else None,
        target_sensitivity=target,
        measured=point.measured if point else None,
    )


def _user() -> str:
    """The account that runs this, not what the environment claims."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without a passwd entry
        return f"uid {os.getuid()}"


def _store(config: "Config", entry: "Entry") -> None:
    from worker.thresholds import append_entry

    append_entry(config.model.thresholds, entry, int(config.site.file_mode, 8))
    click.echo(
        f"Stored in {config.model.thresholds}. A worker that is running takes it up at its next "
        "start; films answered before keep their answers until they are fed in again."
    )


def _lines(entry: "Entry", card: "Card") -> Iterator[str]:
    """What was set, and what it did, for people."""
    measured, band = entry.measured, entry.indeterminate
    if measured is None or band is None:
        yield "threshold     back to the card's"
        return
    rates: dict[str, tuple[Rate, str]] = {
        "sensitivity": (
            measured.sensitivity,
            "patients with the finding: each of their films was called",
        ),
        "specificity": (measured.specificity, "patients without: none of their films was called"),
        "film by film": (measured.film_sensitivity, "films with the finding called"),
        "": (measured.film_specificity, "films without called so"),
        "answered": (measured.coverage, "films; the others are left to a human"),
        "wrong": (measured.risk, "answers"),
    }
    yield (
        f"threshold     {entry.threshold:.3f}, abstains in {band[0]:.3f}–{band[1]:.3f}; to find "
        f"{entry.target_sensitivity:.3g} of the patients with the finding"
    )
    if entry.weights_sha256 == card.weights.sha256:
        low, high = card.decision.indeterminate
        yield f"card          {card.decision.threshold:.3f}, abstains in {low:.3f}–{high:.3f}"
    for name, (rate, what) in rates.items():
        yield f"{name:<13} {_rate(rate)}  {rate.hits} of {rate.of} {what}"
    yield (
        f"films         {measured.films} counted; left out: {measured.refused} refused, "
        f"{measured.unreadable} unreadable, {measured.copies} copies"
    )


def _rate(rate: "Rate") -> str:
    value = "    -" if rate.value is None else f"{rate.value:.3f}"
    bounds = "" if rate.low is None else f"[{rate.low:.3f}, {rate.high:.3f}]"
    return f"{value} {bounds:<14}"
