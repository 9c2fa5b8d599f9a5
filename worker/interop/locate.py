"""Find the film of an answer where it lies now, and read what it says in a decoder process."""

from collections.abc import Iterator
from pathlib import Path

from worker.config import Config
from worker.errors import FilmError, LostFile
from worker.imaging.attributes import Attributes
from worker.imaging.sandbox import DecoderPool
from worker.interop.errors import Impossible
from worker.store.answers import Origin
from worker.whereabouts import films_at

_GONE = "the film is gone: retention removed it, or somebody else did"


def attributes_of_film(pool: DecoderPool, config: Config, origin: Origin) -> Attributes:
    """What the film of an answer says, read from a file that still has the content screened.

    Raises Impossible when no such file is left, what `worker.patience` knows when disk, share or
    decoders refuse, and FilmError when its decoder died.
    """
    why = _GONE
    for path in _paths(config, origin):
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


def _paths(config: Config, origin: Origin) -> Iterator[Path]:
    for place in origin.places:
        with films_at(config, place) as paths:
            yield from paths
