"""The actors of a backfill as its driver sees them: started, kept at work, told to stop."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from worker.errors import ClusterLost, ScreenError
from worker.on_ray.decoding import DecodingActor, actor_threads
from worker.on_ray.node import Ground
from worker.on_ray.plan import Place, Plan, plan
from worker.on_ray.screening import Facts, ScreeningActor, Task, require_equal

log = logging.getLogger(__name__)

_GRACE_S = 30.0  # for the other actors once one is ready; later ones join when they are
_NO_ROOM_SAID_S = 30.0
_REST_S = 2.0  # before an actor that failed is asked again
_FAILURES = 10  # in a row: then an actor is given up; a film that crashes it is set aside by then
_IN_A_ROW_S = 60.0  # of work before a failure: it is no repetition
_STOP_S = 10.0


@dataclass
class _Hand:
    """A screening actor: what it was asked, and how it did."""

    actor: Any
    call: Any = None
    quota: int = 0
    failures: int = 0
    since: float = field(default_factory=monotonic)


class Crew:
    """Screening and decoding actors. `facts` are those of the first screener that was ready."""

    def __init__(self, ground: Ground, *, use_gpus: bool) -> None:
        """Start them, and wait until some are ready.

        Raises what their nodes lack, by the name of the node, and ClusterLost without any room.
        """
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        there = [node["Resources"] for node in nodes if node["Alive"]]
        self._plan: Plan = plan(there, use_gpus=use_gpus)
        if not (self._plan.screeners and self._plan.decoders):
            raise ClusterLost("the Ray cluster has no CPUs for us: start nodes with --num-cpus")
        self._hands = [
            _Hand(_started(ScreeningActor, place, 2).remote(ground, place.cores))
            for place in self._plan.screeners
        ]
        said: list[Facts] = _first_ready([hand.actor for hand in self._hands], "screening")
        self.facts = said[0]
        for facts in said:
            require_equal(facts, self.facts.identity)
        self._decoders = [
            _started(DecodingActor, place, actor_threads(place.cores)).remote(
                ground, self.facts.settings, self.facts.limits, place.cores
            )
            for place in self._plan.decoders
        ]
        _first_ready(self._decoders, "decoding")

    @property
    def size(self) -> int:
        """How many screening actors there are."""
        return len(self._hands)

    def take_answers(self) -> None:
        """Take note of calls that came back. Raises the last error when all were given up."""
        for hand in list(self._hands):
            if hand.call is not None and ray.wait([hand.call], timeout=0)[0]:
                self._take_answer(hand)

    def keep_at_work(self, task: Task, quota: Callable[[int], int | None]) -> None:
        """Give work to whoever has none. `quota(out)` is for one actor, 0 for nothing now.

        `out` is what others were given and have not answered for.
        """
        for hand in self._hands:
            if hand.call is None and monotonic() - hand.since >= _REST_S * bool(hand.failures):
                self._employ(hand, task, quota)

    def _employ(self, hand: _Hand, task: Task, quota: Callable[[int], int | None]) -> None:
        share = quota(sum(each.quota for each in self._hands if each is not hand))
        if share == 0:
            return
        call = hand.actor.work.remote(task, self._decoders, self._plan.films_each, share)
        hand.call, hand.quota, hand.since = call, share or 0, monotonic()

    def _take_answer(self, hand: _Hand) -> None:
        call, hand.call, hand.quota = hand.call, None, 0
        try:
            ray.get(call)
            hand.failures = 0
        except RayTaskError as error:
            self._failed(hand, error.cause)
        except ActorDiedError as error:
            self._failed(hand, error)
        except RayError:  # it is being started again, there or on another node
            log.warning("a screening actor died; its films are tried again by others")
            hand.failures, hand.since = max(1, hand.failures), monotonic()

    def _failed(self, hand: _Hand, error: BaseException) -> None:
        """Start an actor again that failed; give it up when it does so again and again."""
        said = str(error) if isinstance(error, ScreenError) else type(error).__name__
        log.error("a screening actor failed: %s", said)
        hand.failures = 1 if monotonic() - hand.since > _IN_A_ROW_S else hand.failures + 1
        hand.since = monotonic()
        if hand.failures < _FAILURES and not isinstance(error, ActorDiedError):
            if not isinstance(error, ScreenError):
                ray.kill(hand.actor, no_restart=False)
            return
        self._hands.remove(hand)
        if not self._hands:
            if isinstance(error, ScreenError):
                raise error
            raise ClusterLost(
                f"no screening actor is left, the last one ended by {type(error).__name__}: look "
                "at Ray's logs, then start the same command again"
            ) from error

    def stop(self) -> None:
        """Have all give back what they hold; wait a moment for them."""
        calls = [hand.call for hand in self._hands if hand.call is not None]
        with suppress(RayError):
            for hand in self._hands:
                hand.actor.stop.remote()
            if calls:
                ray.wait(calls, num_returns=len(calls), timeout=_STOP_S)


def _started(kind: type, place: Place, calls: int) -> Any:
    """What starts such an actor where Ray finds the place; Ray starts it again when it dies."""
    return ray.remote(kind).options(
        num_cpus=place.cpus,
        num_gpus=place.gpus,
        max_restarts=-1,
        max_task_retries=0,  # the database says what is left to do, not the call
        max_concurrency=calls,
        scheduling_strategy="SPREAD",
    )


def _first_ready(actors: list[Any], what: str) -> list[Any]:
    """What those say that are ready in time, at least one.

    Raises what one of them lacks, and ClusterLost when none finds room.
    """
    calls = [actor.ready.remote() for actor in actors]
    began = monotonic()
    while not (first := ray.wait(calls, timeout=_NO_ROOM_SAID_S)[0]):
        if monotonic() - began > 4 * _NO_ROOM_SAID_S:
            raise ClusterLost(
                f"the Ray cluster has no room for {what}: others use its CPUs or GPUs"
            )
        log.warning("waiting for room in the cluster: %s", what)
    ready = ray.wait(calls, num_returns=len(calls), timeout=_GRACE_S)[0] or first
    try:
        return [ray.get(call) for call in ready]
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise ClusterLost(f"an actor for {what} died as it started: look at Ray's logs") from error
