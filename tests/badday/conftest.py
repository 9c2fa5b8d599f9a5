"""The real daemon as a process of its own, and disks that can be filled, taken away and locked."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.badday.ward import wait_until
from worker.config import Config

REPOSITORY = Path(__file__).parents[2]
# Root minus the capabilities by which it ignores permissions (capabilities(7))
_OBEDIENT = "--bounding-set=-dac_override,-dac_read_search"


class Worker:
    """`screen watch` with a stand-in for the network, and what it logged."""

    def __init__(self, config: Config, log: Path, wrapper: list[str]) -> None:
        self._log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "tests.badday.standin", "watch"],
                cwd=config.root,
                env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
                stderr=errors,
            )

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text()

    def says(self, words: str, times: int = 1) -> bool:
        """Wait until the log holds some words so often; false when the worker ended before."""
        wait_until(lambda: self.log().count(words) >= times or self.process.poll() is not None)
        return self.log().count(words) >= times

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Stop it in order; its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Start a worker that watches; what is still running in the end is killed."""
    started: list[Worker] = []

    def start(config: Config, *, obedient: bool = False) -> Worker:
        wrapper = ["setpriv", _OBEDIENT] if obedient and not os.geteuid() else []
        worker = Worker(config, tmp_path / "log", wrapper)
        started.append(worker)
        assert worker.says("watching the inbox"), worker.log()
        return worker

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def mount(*arguments: object) -> None:
    """Mount something. Raises CalledProcessError."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def unmount(point: Path) -> None:
    """Take a mount away at once, whoever uses it."""
    subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.fixture
def mounts(may_mount: None) -> Iterator[Callable[..., None]]:
    """Mount for one test: `mounts(*arguments, point)`; all of it is gone afterwards."""
    points: list[Path] = []

    def add(*arguments: object) -> None:
        mount(*arguments)
        points.append(Path(str(arguments[-1])))

    yield add
    for point in reversed(points):
        subprocess.run(["umount", "-l", str(point)], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request, tmp_path, mounts) -> Path:
    """An empty filesystem of a few megabytes."""
    point = tmp_path / "disk"
    point.mkdir()
    if request.param == "tmpfs":
        mounts("-t", "tmpfs", "-o", "size=12m", "tmpfs", point)
    else:
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(24 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        mounts("-o", "loop", image, point)
    return point


@contextmanager
def filled(disk: Path, leave: int) -> Iterator[None]:
    """A disk with no more than `leave` bytes of room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            size = file.tell()
        file.truncate(max(0, size - leave))
        os.fsync(file.fileno())
    yield
    ballast.unlink()
