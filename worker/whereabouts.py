"""Where a film lies that was screened before."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from worker.config import Site
from worker.errors import FilmError
from worker.intake.found import INBOX
from worker.spool import fetched
from worker.store.answers import Place


@contextmanager
def films_at(site: Site, place: Place) -> Iterator[list[Path]]:
    """Where a file may be, in the order in which it moves: looked at so, it is never missed.

    An object is fetched, and removed at the end; none where it cannot be. Raises OSError when the
    store refuses.
    """
    with ExitStack() as here:
        if place.is_removed:
            yield []
        elif place.url:
            yield _fetched(here, site, place)
        elif place.source != INBOX:
            yield [place.path]
        else:
            claim, name = place.path.parent.name, place.path.name
            claimed = site.work / claim / name  # the site may have been moved since
            yield [claimed, site.done / place.final_name] if place.final_name else [claimed]


def _fetched(here: ExitStack, site: Site, place: Place) -> list[Path]:
    try:
        return [here.enter_context(fetched(site.work, place.url, place.source))]
    except FilmError:
        return []
