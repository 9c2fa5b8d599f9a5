"""Ray, attached to for as long as it is needed: without its statistics, its dashboard, its log."""

import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from time import monotonic

from worker.errors import ClusterLost, UsageError

LOCAL = "local"
_ADDRESS = re.compile(r"auto|local|[A-Za-z0-9.-]+:\d+|\[[0-9A-Fa-f:]+\]:\d+")
_ANSWERS_WITHIN_S = 5.0
_HEAD_AWAY_S = 30.0  # Ray itself ends a driver without a word after 60 s


def require_address(address: str) -> None:
    """Raise UsageError for what is no address of a cluster, or when Ray is not installed."""
    if not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"--address {address}: expected HOST:PORT of the cluster's head, 'auto' for that of "
            "this machine, or 'local' for one of its own"
        )
    if find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray: pip install 'cxr-screen[ray]'")


@contextmanager
def attached(address: str) -> Iterator[None]:
    """Attach to a cluster; `local` starts one on this machine, which ends with it.

    Raises ClusterLost when there is none, or when it does not let us in.
    """
    import ray

    try:
        if address not in (LOCAL, "auto"):
            _knock(address)  # Ray itself would end this process without a word of ours
        ray.init(
            address=address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ray.exceptions.AuthenticationError as error:
        raise ClusterLost(
            f"the Ray cluster {address} does not let us in: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as on its nodes"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterLost(
            f"no Ray cluster answers at {address}: this machine must be a node of it ('ray start "
            f"--address={address}'), with the same versions of Ray and Python, and with its token "
            "(RAY_AUTH_MODE, RAY_AUTH_TOKEN) if it has one"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def head_watch() -> Callable[[], None]:
    """What raises ClusterLost, whenever it is called, once the head is away for long."""
    import ray

    head: str = ray.get_runtime_context().gcs_address
    seen = monotonic()

    def check() -> None:
        nonlocal seen
        try:
            _knock(head)
            seen = monotonic()
        except OSError as error:
            if monotonic() - seen > _HEAD_AWAY_S:
                raise ClusterLost(
                    f"the head of the Ray cluster, {head}, does not answer: start the "
                    "cluster again, then the same command"
                ) from error

    return check


def _knock(address: str) -> None:
    """Raise OSError unless somebody answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_WITHIN_S).close()
