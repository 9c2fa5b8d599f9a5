"""Find the film of an answer where it lies now, and read what it says in a decoder process."""

from pathlib import Path

from worker.config import Site
from worker.errors import FilmError, LostFile
from worker.imaging.attributes import Attributes
from worker.imaging.sandbox import DecoderPool
from worker.intake.found import INBOX
from worker.interop.errors import Impossible
from worker.store.answers import Origin, Place

_GONE = "the film is gone: retention removed it, or somebody else did"


def attributes_of_film(pool: DecoderPool, site: Site, origin: Origin) -> Attributes:
    """What the film of an answer says, read from a file that still has the content screened.

    Raises Impossible when no such file is left, what `worker.patience` knows when disk, share or
    decoders refuse, and FilmError when its decoder died.
    """
    why = _GONE
    for path in (path for place in origin.places for path in _paths(site, place)):
        try:
            found = pool.attributes(path).result()
        except LostFile:
            continue
        except FilmError as error:
            if error.is_strike:
                raise
            why = f"the film cannot be read: {error}"
            continue
        if found.sha256 == origin.sha256:
            return found
        why = "the film was changed since it was screened"
    raise Impossible(why)


def _paths(site: Site, place: Place) -> list[Path]:
    """Where a file may be, in the order in which it moves: looked at so, it is never missed."""
    if place.is_removed:
        return []
    if place.source != INBOX:
        return [place.path]
    claimed = site.work / place.path.parent.name / place.path.name  # the site may have been moved
    return [claimed, site.done / place.final_name] if place.final_name else [claimed]
