"""`screen`, the real program, with a screener that answers at once: no network, no decoders.

`python -m tests.badday.standin watch`. What begins with NO_FILM is no film. Pauses are short.
"""

import os
from concurrent.futures import Future
from pathlib import Path

import worker.intake.inbox
import worker.patience
import worker.screening
from tests.standin import StandInScreener, make_card
from worker.cli.main import main
from worker.errors import FilmError, NotAFilm
from worker.filesystem import open_film
from worker.records import Examined

NO_FILM = b"no film"
PAUSE_S = 0.05


class AtOnce(StandInScreener):
    """Made as the real one is; what the disk refuses reaches the future, as through a decoder."""

    def __init__(self, _config: object, *, keep_patients: bool = False) -> None:
        super().__init__(make_card())

    def examine(self, path: Path) -> "Future[Examined]":
        try:
            with open_film(path, 1 << 20) as file:
                if file.read().startswith(NO_FILM):
                    raise NotAFilm("neither JPEG, PNG nor DICOM")
            return super().examine(path)
        except (FilmError, OSError) as error:
            future: Future[Examined] = Future()
            future.set_exception(error)
            return future


def prepare() -> None:
    """Put the stand-in where the commands look for the real one."""
    assert worker.patience._PAUSES_S
    assert worker.intake.inbox._TRY_AGAIN_S
    worker.patience._PAUSES_S = (PAUSE_S,)
    worker.intake.inbox._TRY_AGAIN_S = 10 * PAUSE_S
    worker.screening.Screener = AtOnce


def become(uid: int) -> None:
    """Give up root's rights, which no permission stops."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


if __name__ == "__main__":
    prepare()
    main()
