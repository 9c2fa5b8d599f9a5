"""What goes on at the site, as it changes: server-sent events (HTML standard, 9.2)."""

import time
from collections.abc import AsyncIterator, Callable

import anyio
from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

_LOOK_EVERY_S = 1.0
_ALIVE_EVERY_S = 15.0
_MOST_READERS = 64


class Live:
    """Looks at the site for all readers at once, as long as there are any."""

    def __init__(self, look: Callable[[], str]) -> None:
        self._look, self._lock = look, anyio.Lock()
        self._said, self._looked_s = "", float("-inf")
        self._readers = 0

    async def now(self) -> str:
        """What is to be seen, at most a second old."""
        async with self._lock:
            if time.monotonic() - self._looked_s >= _LOOK_EVERY_S * 0.9:
                self._said = await run_in_threadpool(self._look)
                self._looked_s = time.monotonic()
            return self._said

    async def events(self, is_over: Callable[[], bool]) -> AsyncIterator[str]:
        """What is to be seen, each time it changed; else a comment, so that proxies wait.

        Until `is_over`: who listens must not hold up the server's end.
        """
        self._readers += 1
        said, quiet_since = None, time.monotonic()
        try:
            while not is_over():
                if (seen := await self.now()) != said:
                    said, quiet_since = seen, time.monotonic()
                    yield _event(seen)
                elif time.monotonic() - quiet_since > _ALIVE_EVERY_S:
                    quiet_since = time.monotonic()
                    yield ": still here\n\n"
                await anyio.sleep(_LOOK_EVERY_S)
        finally:
            self._readers -= 1

    def is_full(self) -> bool:
        """Whether as many read as may."""
        return self._readers >= _MOST_READERS


def routes(live: Live) -> APIRouter:
    """Where browsers listen."""
    router = APIRouter(tags=["results"])

    @router.get("/api/events", response_class=StreamingResponse)
    async def events(request: Request) -> StreamingResponse:
        """Server-sent events: `now`, a piece of HTML with what came last, on each change."""
        if live.is_full():
            raise HTTPException(503, f"{_MOST_READERS} browsers listen already")
        seen = live.events(request.app.state.is_over)
        return StreamingResponse(seen, media_type="text/event-stream")

    return router


def _event(html: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"event: now\n{lines}\n"
