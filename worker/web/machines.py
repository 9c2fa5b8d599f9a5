"""For machines that watch over machines: `/healthz` and `/metrics`."""

import time
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from worker.heartbeat import health_of
from worker.store.queries import newest_screening
from worker.web.room import Room


class Health(BaseModel):
    """Whether the page can answer; `worker` is the worker's state (docs/OPERATIONS.md)."""

    status: Literal["ok", "no-worker"]
    worker: str


def alive() -> APIRouter:
    """For a server without a site: it is well while it answers."""
    router = APIRouter(tags=["machines"])

    @router.get("/healthz")
    def healthz() -> Health:
        """200 while films can be answered."""
        return Health(status="ok", worker="none")

    return router


def routes(room: Room, *, watch: bool) -> APIRouter:
    """What monitoring asks; with `watch` the page is well only if its worker is."""
    router = APIRouter(tags=["machines"])

    @router.get("/healthz", responses={503: {"model": Health}})
    def healthz(response: Response) -> Health:
        """200 while the database answers, and the worker lives if it is the page's own."""
        room.check_database()
        newest_screening(room.reader)  # raises what makes it 503
        worker = health_of(room.config.local_state, time.monotonic())
        well = worker.healthy or not watch
        response.status_code = 200 if well else 503
        return Health(status="ok" if well else "no-worker", worker=worker.state)

    @router.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Counters and gauges in Prometheus' text format."""
        return Response(room.traffic.text(), media_type=CONTENT_TYPE_LATEST)

    return router
