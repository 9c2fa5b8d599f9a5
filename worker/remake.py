"""Make the reports that a backfill left out: decode the films again, where they lie now.

The answer stands as it was given; only picture and page are new.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Config
from worker.errors import FilmError, LostFile
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.sandbox import DecoderPool
from worker.records import PreparedFilm
from worker.report.site import render_again, write_pictures
from worker.store.answers import Place, origin
from worker.store.leftout import keep_made
from worker.store.queries import StoredScreening, stored_screening
from worker.whereabouts import films_at

_AT_ONCE = 16  # films in one transaction
_MODEL_INPUT = (224, 1.0, 99.0)  # made beside the picture, and not looked at


@dataclass(frozen=True)
class Missing:
    """A report that could not be made: of which file, and why."""

    file: str
    why: str


def make_reports(
    config: Config,
    engine: Engine,
    ids: Iterable[int],
    check: Callable[[], None],
    alive: Callable[[], None] = lambda: None,
) -> Iterator[Missing]:
    """Make the reports of these screenings; give those whose film cannot be read any more.

    `check` raises when the site's folders are not those that were marked, `alive` is called for
    each film. What was made before an error stands. Raises OSError, StoreError.
    """
    report, rest = config.report, iter(ids)
    prepare = PrepareSettings(*_MODEL_INPUT, report.picture_px, report.quality)
    limits = DecodeLimits.from_config(config.decode)
    with DecoderPool(prepare, limits, config.decode.process_count) as pool:
        while some := list(islice(rest, _AT_ONCE)):
            yield from _make(config, engine, pool, some, check)
            for _ in some:
                alive()


def _make(
    config: Config,
    engine: Engine,
    pool: DecoderPool,
    ids: Sequence[int],
    check: Callable[[], None],
) -> Iterator[Missing]:
    """Pictures are synced before the database knows of them; pages can always be made again."""
    stored = {number: stored_screening(engine, number) for number in ids}
    films = _decoded(config, engine, pool, stored)
    pictures = {n: film.picture for n, film in films.items() if isinstance(film, PreparedFilm)}
    check()
    write_pictures(config.site, {stored[n].picture: picture for n, picture in pictures.items()})
    keep_made(engine, list(pictures), config.dicom.results, datetime.now(UTC))
    render_again(config.site, engine, list(pictures), identity=config.dicom.identity)
    for number, film in films.items():
        if isinstance(film, FilmError):
            yield Missing(stored[number].record.file, str(film))


def _decoded(
    config: Config, engine: Engine, pool: DecoderPool, stored: dict[int, StoredScreening]
) -> dict[int, PreparedFilm | FilmError]:
    """Films by screening, decoded at the same time; or why there is none."""
    films: dict[int, PreparedFilm | FilmError] = {}
    with ExitStack() as here:
        waiting: dict[int, list[Future[PreparedFilm]]] = {}
        for number in stored:
            paths = _paths(config, here, origin(engine, number).places)
            waiting[number] = [pool.submit(path) for path in paths]
        for number, futures in waiting.items():
            films[number] = _first(futures, str(stored[number].record.sha256))
    return films


def _paths(config: Config, here: ExitStack, places: Iterable[Place]) -> Iterator[Path]:
    for place in places:
        yield from here.enter_context(films_at(config, place))


def _first(futures: Sequence[Future[PreparedFilm]], sha256: str) -> PreparedFilm | FilmError:
    """The film that still has this content, from wherever it could be read."""
    why: FilmError = LostFile("the film is gone: feed it in again")
    for future in futures:
        try:
            film = future.result()
        except FilmError as error:
            why = error
            continue
        if film.sha256 == sha256:
            return film
        why = LostFile("the film was changed since it was screened")
    return why
