"""The real daemon on a real site, and files fed to it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.verdict import Fed
from worker.config import Config, load_config
from worker.folders import regular_files
from worker.site import init_site

PATIENCE_S = 200.0  # a bound for a loaded machine
_QUICK = """[watch]
settle_s = 0
scan_interval_s = 0.2
incomplete_after_s = {incomplete_after_s}
[decode]
processes = 2
[model]
name = '{model}'
precision = 'float32'
"""
_LOOK_EVERY_S = 0.1
_START_S = 120.0
_STOP_S = 120.0


class DaemonDied(Exception):
    """The daemon is gone although nobody told it to stop."""


class TooSlow(Exception):
    """What was waited for did not come in time."""


def quick_settings(model: Path, incomplete_after_s: float = 1) -> str:
    """A configuration that takes films at once and screens them with a test model."""
    return _QUICK.format(model=model, incomplete_after_s=incomplete_after_s)


def make_site(folder: Path, settings: str) -> Config:
    """A new site with these lines as its configuration."""
    config, _ = init_site(folder)
    (config.root / "config.toml").write_text(settings)
    (config.root / "staging").mkdir()
    return load_config(config.root / "config.toml")


@dataclass(frozen=True)
class RealDaemon:
    """`screen watch` as its own process; `log` is what it said on stderr."""

    config: Config
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self, come: Callable[[], bool], limit_s: float) -> None:
        """Wait until something is so. Raises DaemonDied, or TooSlow after `limit_s`."""
        never = threading.Event()
        for _ in range(int(limit_s / _LOOK_EVERY_S)):
            self.require_up()
            if come():
                return
            never.wait(_LOOK_EVERY_S)
        raise TooSlow(f"not within {limit_s:g} s")

    def require_up(self) -> None:
        """Raise DaemonDied unless the daemon runs."""
        code = self.process.poll()
        if code is not None:
            raise DaemonDied(f"the daemon ended with {code}: {self.log.read_text()[-500:]}")

    def feed(self, fed: Fed, data: bytes) -> None:
        """Put a whole file into the inbox at once, by rename."""
        staged = stage(self.config, fed, data)
        staged.rename(self.config.site.inbox / fed.name)

    def waiting(self) -> int:
        """How many files the inbox holds."""
        return sum(1 for _ in regular_files(self.config.site.inbox))

    def is_idle(self) -> bool:
        """Whether inbox and work are empty."""
        work = [path for path in self.config.site.work.iterdir() if path.is_dir()]
        return not work and not self.waiting()

    def stop(self) -> int:
        """Ask the daemon to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_S)


def stage(config: Config, fed: Fed, data: bytes) -> Path:
    """Write a file beside the inbox, on the same filesystem."""
    staged = config.root / "staging" / fed.name
    staged.write_bytes(data)
    return staged


@contextmanager
def running(
    config: Config, repository: Path, program: tuple[str, ...] = ("-m", "worker")
) -> Iterator[RealDaemon]:
    """The daemon, watching; it is killed at the end if it still runs."""
    log = config.root / "daemon.log"
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, *program, "watch"],
            cwd=config.root,
            env=os.environ | {"PYTHONPATH": str(repository)},
            stderr=stderr,
        )
    daemon, before = RealDaemon(config, process, log), log.stat().st_size
    try:
        daemon.wait(lambda: b"watching the inbox" in log.read_bytes()[before:], _START_S)
        yield daemon
    finally:
        process.kill()
        process.wait()
