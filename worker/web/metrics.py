"""What Prometheus is told: what the site holds, how the worker is, what was asked for."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.config import Config
from worker.heartbeat import health_of
from worker.store.counts import counts_by_decision, waiting_files_count

_STATES = ("starting", "idle", "working", "paused", "stopping", "hangs", "gone", "none")


class Traffic:
    """Counters of this server, from its start on."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "screen_http_requests", "Requests answered", ["status"], registry=self.registry
        )
        self.uploads = Counter(
            "screen_uploaded_films", "Films received over HTTP", registry=self.registry
        )
        self.uploaded_bytes = Counter(
            "screen_uploaded_bytes", "Bytes of these films", registry=self.registry
        )
        self.invocations = Counter(
            "screen_invocations", "Films answered at once", ["decision"], registry=self.registry
        )

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class Counted:
    """Counts answers by their status. Pure ASGI."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app, self._traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._traffic.requests.labels(str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counted)


class SiteCollector(Collector):
    """Gauges that are read when they are asked for."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config, self._engine = config, engine

    def collect(self) -> Iterator[Metric]:
        """Results by decision, what waits, the worker's state, free disk."""
        results = GaugeMetricFamily(
            "screen_results", "Files that came to an end, by outcome", labels=["outcome"]
        )
        for outcome, count in counts_by_decision(self._engine).items():
            results.add_metric([outcome], count)
        yield results
        waiting = GaugeMetricFamily(
            "screen_waiting_files", "Files recorded and not finished", labels=["source"]
        )
        waiting.add_metric(["inbox"], waiting_files_count(self._engine, inbox=True))
        waiting.add_metric(["archives"], waiting_files_count(self._engine, inbox=False))
        yield waiting
        yield from self._worker()
        free = GaugeMetricFamily(
            "screen_free_bytes", "Free disk below the folder", labels=["folder"]
        )
        for name in ("inbox", "reports"):
            with suppress(OSError):  # a share that is gone: the other numbers still count
                folder = getattr(self._config.site, name)
                free.add_metric([name], shutil.disk_usage(folder).free)
        yield free

    def _worker(self) -> Iterator[Metric]:
        health = health_of(self._config.local_state, time.monotonic())
        yield GaugeMetricFamily(
            "screen_worker_healthy", "1 while the worker lives", float(health.healthy)
        )
        state = GaugeMetricFamily("screen_worker_state", "1 for its state", labels=["state"])
        for name in _STATES:
            state.add_metric([name], float(name == health.state))
        yield state
