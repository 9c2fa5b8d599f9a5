"""One life of a worker with a stand-in for decoders and network, and what befalls it."""

import errno
import os
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.standin import StandInScreener, make_card
from tests.torture.films import Kind
from worker import failpoints
from worker.backfill import backfill
from worker.cli.running import run
from worker.config import load_config
from worker.daemon import Daemon
from worker.errors import CorruptFile, DecoderCrashed, FilmError, ScreenError, StoreError
from worker.intake.archive import Folder
from worker.marks import require_this_site
from worker.pipeline import Pipeline
from worker.records import Examined
from worker.recovery import tidy
from worker.site import hold_site

CRASHED = 70  # exit status of a life that ended by an error of the program


@dataclass(frozen=True)
class Blow:
    """What happens when the life comes to a step for the n-th time.

    `deed`: kill (SIGKILL), freeze (SIGSTOP, for the power cut), stop (as SIGTERM asks), full (the
    disk), locked (the database).
    """

    deed: str
    point: str
    nth: int = 1


class TorturedScreener(StandInScreener):
    """Decodes what `films` makes; `scratch` remembers across lives which films were flaky."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(make_card())
        self._scratch = scratch

    def examine(self, path: Path) -> "Future[Examined]":
        """As the kind of the content wants it."""
        content = path.read_bytes()
        error = self._error(content)
        if error is None:
            return super().examine(path)
        future: Future[Examined] = Future()
        future.set_exception(error)
        return future

    def _error(self, content: bytes) -> FilmError | None:
        kind, _, name = content.decode().partition(":")
        if kind == Kind.BROKEN:
            return CorruptFile("broken")
        seen = self._scratch / name
        if kind == Kind.CRASHER or (kind == Kind.FLAKY and not seen.exists()):
            seen.touch()
            return DecoderCrashed("died")
        if kind == Kind.KILLER:
            os.abort()
        return None


def live(
    root: Path,
    scratch: Path,
    archive: Path | None,
    blow: Blow | None,
    saw: Callable[[str], None],
    *,
    restless: bool,
) -> int:
    """One life over a site, or over an archive into it; returns its exit status.

    `scratch` outlives it, and every power cut. `saw` is told of every step that it comes to. In a
    restless life a file is still being written when it is claimed.
    """
    config = load_config(root / "config.toml")
    screener = TorturedScreener(scratch)
    kind = "backfill" if archive else "watch"
    try:
        with (
            _struck(blow, saw) as stops,
            hold_site(config) as engine,
            run(engine, config, screener, kind, kind) as (run_id, model_id),
        ):
            check = require_this_site(config.site, engine)
            ids = {"run_id": run_id, "model_id": model_id}
            new_pipeline = partial(Pipeline, engine, screener, config, **ids, check=check)
            if archive:
                tidy(config.site, engine)
                backfill(
                    engine,
                    new_pipeline(),
                    [Folder(archive)],
                    **ids,
                    batch_size=config.batch.size,
                    limit=None,
                    advance=lambda _files, _outcomes: None,
                )
                return 0
            daemon = Daemon(
                engine,
                config,
                lambda shelves: new_pipeline(name_for=shelves.name_for),
                **ids,
                check=check,
                pulse=_Silence(),
            )
            stops.append(daemon.stop)
            if restless:
                failpoints.arm(_Restless(config.site.inbox))
            daemon.drain()
            return 1 if daemon.stopped else 0
    except (ScreenError, OSError):
        return 1
    except Exception:
        (scratch / "traceback").write_text(traceback.format_exc())
        return CRASHED


class _Silence:
    def beat(self, state: str, *, cause: str | None = None, finished: int = 0) -> None:
        """Say nothing."""


class _Restless:
    """Writes to the file whose claim comes first, as a slow uploader does."""

    def __init__(self, inbox: Path) -> None:
        self._inbox, self._quiet = inbox, False

    def __call__(self, name: str) -> None:
        if name == "claim-made" and not self._quiet:
            self._quiet = True
            for path in self._inbox.rglob("*.*"):
                os.utime(path)


@contextmanager
def _struck(blow: Blow | None, saw: Callable[[str], None]):
    """Arm the blow for as long as the life lasts; what `stop` calls is added to the list given."""
    stops: list[Callable[[], None]] = []
    left = blow.nth if blow else 0

    def hook(name: str) -> None:
        nonlocal left
        saw(name)
        if blow is None or name != blow.point:
            return
        left -= 1
        if left == 0:
            _DEEDS[blow.deed](stops)

    disarm = failpoints.arm(hook)
    try:
        yield stops
    finally:
        disarm()


def _full(_stops: list[Callable[[], None]]) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _locked(_stops: list[Callable[[], None]]) -> None:
    raise StoreError("the database refused: locked")


def _stop(stops: list[Callable[[], None]]) -> None:
    for stop in stops:
        stop()


_DEEDS: dict[str, Callable[[list[Callable[[], None]]], None]] = {
    "kill": lambda _stops: os.kill(os.getpid(), signal.SIGKILL),
    "freeze": lambda _stops: os.kill(os.getpid(), signal.SIGSTOP),
    "stop": _stop,
    "full": _full,
    "locked": _locked,
}
