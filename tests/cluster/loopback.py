"""A Ray cluster of several nodes on this machine, and a site that all of them see."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from sqlalchemy import Engine, create_engine, text

from tests.conftest import REPOSITORY, screen_environment
from worker.config import load_config
from worker.site import init_site

_QUICK = {  # deaths are noticed in seconds, not in minutes
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_worker_niceness": "0",  # of 15 by itself: beside other tests it would hardly run
}
ENVIRONMENT = _QUICK | {
    "RAY_AUTH_MODE": "token",  # whoever reaches a port of Ray without it may run anything
    "RAY_AUTH_TOKEN": "5c" * 32,
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
BOUND_S = 200.0


def make_films(folder: Path, count: int) -> Path:
    """An archive of so many small films, no two alike, in folders of fifty."""
    draws = np.random.default_rng(7)
    for number in range(count):
        path = folder / f"{number // 50:03}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = draws.integers(0, 255, (12, 12), np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (320, 320), interpolation=cv2.INTER_CUBIC))
    return folder


class Site:
    """A site on PostgreSQL, the program that runs in it, and what its database says."""

    def __init__(self, root: Path, url: str, model: Path | str) -> None:
        config, _ = init_site(root)
        file = config.root / "config.toml"
        lines = [
            *(f'[database]\nurl = "{url}"', "[cluster]\nlease_s = 4", f'[model]\nname = "{model}"'),
            *("[batch]\nsize = 4", "[guard]\noutside_population = 'mark'"),
        ]
        file.write_text("\n".join(lines) + "\n")
        self.config = load_config(file)
        self.engine: Engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """Begin `screen backfill …` in the site."""
        return subprocess.Popen(
            [sys.executable, "-m", "worker", "backfill", *map(str, arguments)],
            cwd=self.config.root,
            env=screen_environment() | ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rows(self, statement: str) -> list[tuple]:
        """What a question to the database gives."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def finished(self) -> int:
        """How many files have come to their end."""
        ((count,),) = self.rows("SELECT count(*) FROM files WHERE finished_at IS NOT NULL")
        return count


def wait_until(true: Callable[[], bool], process: "subprocess.Popen[str] | None" = None) -> None:
    """Wait for something, within bounds, as long as a process lives."""
    until = time.monotonic() + BOUND_S
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


class Loopback:
    """The cluster. The head has no cores, so that its death is that of the head alone."""

    def __init__(self, nodes: int = 2) -> None:
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.nodes"],
            cwd=REPOSITORY,
            env=screen_environment() | ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        said = self._said()
        self.address: str = said["address"]
        self._head: list[int] = said["pids"]
        self._nodes = [self._add_node() for _ in range(nodes)]

    def _said(self) -> dict:
        return json.loads(self._keeper.stdout.readline())

    def _add_node(self) -> list[int]:
        self._keeper.stdin.write("add\n")
        self._keeper.stdin.flush()
        return self._said()["pids"]

    def kill_head(self) -> None:
        """All processes of the head at once."""
        _kill(self._head)

    def kill_node(self) -> None:
        """All that Ray started of a node; another node comes in its place."""
        _kill(self._nodes.pop(0))
        self._nodes.append(self._add_node())

    def kill_actor(self, kind: str) -> None:
        """One actor of a kind, wherever it runs."""
        os.kill(self._actors(kind)[0], signal.SIGKILL)

    def _actors(self, kind: str) -> list[int]:
        raylets = {pid for pids in self._nodes for pid in pids}
        return [pid for pid in _children(raylets) if _title(pid).startswith(f"ray::{kind}")]

    def close(self) -> None:
        """End all of it."""
        for pids in (self._head, *self._nodes):
            _kill(pids)
        self._keeper.kill()
        self._keeper.communicate()


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(parents: set[int]) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) in parents:
            found.append(int(folder.name))
    return found


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
