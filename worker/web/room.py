"""What all handlers of one server share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import HTTPException
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import Engine
from starlette.requests import Request

from worker.config import Config
from worker.web.metrics import Traffic
from worker.web.token import Sessions

LOGINS_PER_MINUTE = 10


@dataclass(frozen=True)
class Room:
    """A site as the page sees it.

    `reader` never writes; `writer` keeps reviews. `check` raises ShareGone when the folders are not
    the site's, `check_database` StoreError when its file is gone or another one; `reviewed` is told
    of each new review. `sessions` are `None` where no token is asked for.
    """

    config: Config
    reader: Engine
    writer: Engine
    check: Callable[[], None]
    check_database: Callable[[], None]
    sessions: Sessions | None
    rates: "Rates"
    traffic: Traffic
    reviewed: Callable[[], None]


class Rates:
    """How often one client may do something."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def take(self, request: Request, what: str, per_minute: int, count: int = 1) -> None:
        """Count some; raises HTTPException 429 when they are too many within a minute."""
        client = request.client.host if request.client else "local"
        if not self._limiter.hit(parse(f"{per_minute}/minute"), what, client, cost=count):
            raise HTTPException(
                429, f"more than {per_minute} a minute: wait, then go on", {"Retry-After": "60"}
            )


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)
