"""Decoding apart from screening: actors with decoder children, and how screeners use them."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, cast

import ray
from ray.exceptions import (
    NodeDiedError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from worker.errors import (
    DecoderCrashed,
    DecoderUnavailable,
    FilmError,
    LostFile,
    ScreenError,
)
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.sandbox import DecoderPool
from worker.on_ray.node import Ground, said_by_node
from worker.records import PreparedFilm
from worker.scratch import scratch

_AHEAD = 2  # films a decoder child has asked of it: the one in hand and the next
_DEATHS = 5  # of actors, with one film in hand, before that counts as a strike against it
_DEATHS_OF_ACTORS = (RayActorError, WorkerCrashedError, NodeDiedError)
_FOUND_WITHIN_S = 120.0  # an actor that decodes; then the films are given back
_ASK_AGAIN_S = 1.0


class DecodingActor:
    """Decodes films for all screening actors, in children that may crash or hang without harm."""

    def __init__(
        self, ground: Ground, settings: PrepareSettings, limits: DecodeLimits, children: int
    ) -> None:
        self._ground, self._wanted = ground, (settings, limits, children)
        self._lock = threading.Lock()
        self._pool: DecoderPool | None = None
        self._check: Callable[[], None] = lambda: None
        self._state = Path()

    def ready(self) -> None:
        """Look at the node and start the children.

        Raises as `Ground.config` does, with the name of the node.
        """
        with self._lock, said_by_node():
            config = self._ground.config()
            self._state = config.local_state.parent
            self._check = self._ground.archives_here()
            self._pool = self._pool or DecoderPool(*self._wanted)

    def decode(self, film: Path | bytes) -> PreparedFilm:
        """Decode one film, or its bytes. Raises as the future of `DecoderPool.submit`, and `ready`.

        Bytes are those of an object that another node fetched.
        """
        if self._pool is None:  # started again on another node
            self.ready()
        pool = cast("DecoderPool", self._pool)
        if isinstance(film, bytes):
            with self._written(film) as path:
                return pool.submit(path).result()
        try:
            return pool.submit(film).result()
        except LostFile:
            self._check()
            raise

    @contextmanager
    def _written(self, film: bytes) -> Iterator[Path]:
        """A film in a file of this node, for as long as it is decoded."""
        with ExitStack() as stack:
            try:
                path = stack.enter_context(scratch(self._state)) / "film"
                path.write_bytes(film)
            except OSError as error:  # this node's trouble: another may have room
                raise DecoderUnavailable(f"a film cannot be written here: {error}") from error
            yield path


def actor_threads(children: int) -> int:
    """How many calls an actor with so many children should take at once."""
    return _AHEAD * children


@dataclass
class _Seat:
    """A decoding actor as one screener sees it: usable once `asked` was answered."""

    actor: Any
    asked: Any
    usable: bool = False
    films: int = 0
    asked_at: float = field(default_factory=monotonic)

    def look(self) -> bool:
        """Whether it may be given films; asks again, a second later, when it said no."""
        if not self.usable and ray.wait([self.asked], timeout=0)[0]:
            try:
                ray.get(self.asked)
                self.usable = True
            except RayError:
                if monotonic() - self.asked_at > _ASK_AGAIN_S:
                    self.ask()
        return self.usable

    def ask(self) -> None:
        """Ask whether it is there: an actor that died comes back on another node, or later."""
        self.usable, self.asked, self.asked_at = False, self.actor.ready.remote(), monotonic()


class RemoteDecoders:
    """What a `DecoderPool` is for a screener, made of the actors that `use` names.

    A film goes to the actor that has fewest of ours; when that dies, to another one.
    """

    def __init__(self, settings: PrepareSettings, limits: DecodeLimits, _processes: int) -> None:
        self.settings, self.limits = settings, limits
        self._seats: list[_Seat] = []
        self._changed = threading.Condition()
        self._threads: ThreadPoolExecutor | None = None
        self.carried = Path(os.devnull)  # films below it are here alone: their bytes travel

    def use(self, actors: Sequence[Any], films: int) -> None:
        """Decode with these actors from now on, so many films at once."""
        with self._changed:
            self._seats = [_Seat(actor, actor.ready.remote()) for actor in actors]
            if self._threads is None:
                self._threads = ThreadPoolExecutor(films, "decoding")

    def submit(self, path: Path) -> "Future[PreparedFilm]":
        """Queue one film. Raises DecoderUnavailable when this is closed, or nobody decodes."""
        with self._changed:
            if self._threads is None:
                raise DecoderUnavailable("there are no actors that decode")
            return self._threads.submit(self._decode, path)

    def close(self) -> None:
        """Take no more films; those that wait are cancelled."""
        with self._changed:
            threads, self._threads, self._seats = self._threads, None, []
            self._changed.notify_all()
        if threads:
            threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, path: Path) -> PreparedFilm:
        given = path.read_bytes() if path.is_relative_to(self.carried) else path
        for _ in range(_DEATHS):
            seat = self._take()
            try:
                film: PreparedFilm = ray.get(seat.actor.decode.remote(given))
                return film
            except RayTaskError as error:
                if isinstance(error.cause, (FilmError, OSError)):
                    raise error.cause from None
                last: ScreenError = DecoderUnavailable(str(error.cause))  # that node's trouble
                self._doubt(seat)
            except _DEATHS_OF_ACTORS:
                last = DecoderCrashed(f"{_DEATHS} decoding actors died while they held this film")
                self._doubt(seat)
            except RayError as error:  # no room for the film's bytes, say: no film is to blame
                last = DecoderUnavailable(f"Ray cannot carry a film: {type(error).__name__}")
                self._doubt(seat)
            finally:
                self._leave(seat)
        raise last

    def _doubt(self, seat: _Seat) -> None:
        with self._changed:
            seat.ask()

    def _leave(self, seat: _Seat) -> None:
        with self._changed:
            seat.films -= 1
            self._changed.notify()

    def _take(self) -> _Seat:
        """The usable actor with fewest films of ours, once there is one."""
        until = monotonic() + _FOUND_WITHIN_S
        with self._changed:
            while monotonic() < until and self._threads is not None:
                usable = [seat for seat in self._seats if seat.look()]
                if usable:
                    seat = min(usable, key=lambda seat: seat.films)
                    seat.films += 1
                    return seat
                self._changed.wait(_ASK_AGAIN_S / 10)
        raise DecoderUnavailable("no decoding actor answers: the cluster has no room for one")
