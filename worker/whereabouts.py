"""Where a film lies that was screened before."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from worker.config import Config
from worker.errors import FilmError
from worker.intake.found import INBOX
from worker.scratch import scratch
from worker.spool import fetched
from worker.store.answers import Place


@contextmanager
def films_at(config: Config, place: Place) -> Iterator[list[Path]]:
    """Where a file may be, in the order in which it moves: looked at so, it is never missed.

    An object is fetched, and removed at the end; none where it cannot be. Raises OSError when the
    store refuses.
    """
    with ExitStack() as here:
        if place.is_removed:
            yield []
        elif place.url:
            yield _fetched(here, config, place)
        elif place.source != INBOX:
            yield [place.path]
        else:
            claim, name = place.path.parent.name, place.path.name
            claimed = config.site.work / claim / name  # the site may have been moved since
            yield [claimed, config.site.done / place.final_name] if place.final_name else [claimed]


def _fetched(here: ExitStack, config: Config, place: Place) -> list[Path]:
    folder = here.enter_context(scratch(config.local_state.parent))
    try:
        return [here.enter_context(fetched(folder, place.url, place.source))]
    except FilmError:
        return []
