"""Make the n-th system call of a worker fail, for each n, each call and each error; then look.

`python -m tests.badday.syscalls --all` tries everything (long); without it, a sample. Each case is
a fork of this process, so nothing is imported twice. The calls are made to fail by shim.c, which
only counts those that concern the site.
"""

import argparse
import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path

from tests.badday.standin import prepare
from tests.badday.ward import drop, is_empty, new_site, wait_until, wrongs
from worker.cli.main import main
from worker.config import load_config

KINDS = (
    *("write", "fsync", "rename", "link", "unlink", "rmdir", "mkdir", "open", "opendir"),
    *("ftruncate", "chmod", "read", "stat"),
)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE, errno.EBUSY)
_HERE = Path(__file__).parent
_SHIM = "SCREEN_TEST_SHIM"
_LIMIT_S = 20.0
_NEVER = 1 << 40


@dataclass(frozen=True)
class Case:
    """The n-th call of a kind fails with an error."""

    kind: str
    number: int
    n: int

    def __str__(self) -> str:
        return f"{self.kind} {self.n} {errno.errorcode[self.number]}"


def build(folder: Path) -> Path:
    """Compile the shim. Raises CalledProcessError without a C compiler."""
    shim = folder / "shim.so"
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            "-o",
            shim,
            _HERE / "shim.c",
            "-ldl",
        ],
        check=True,
    )
    return shim


class Sweep:
    """Runs cases on copies of one site."""

    def __init__(self, folder: Path) -> None:
        prepare()
        self._folder = folder
        self._shim = ctypes.CDLL(os.environ[_SHIM])
        self._shim.shim_count.restype = ctypes.c_long
        drop(new_site(folder / "template"))

    def calls(self, kind: str) -> int:
        """How many calls of a kind a day without trouble makes."""
        site = self._copy()
        self._watch(site, Case(kind, 0, _NEVER))
        count = int((site / "calls").read_text())
        shutil.rmtree(site.parent)
        return count

    def wrongs(self, case: Case) -> list[str]:
        """What is not as it should be after a case and one more, quiet life; empty if all is."""
        site = self._copy()
        found = self._watch(site, case)
        once = _Life(self._begin(site, None, "--once"))
        if not wait_until(once.is_over, _LIMIT_S) or once.code not in (0, 3):
            found.append(f"the next life ended with {once.end()}")
        found += wrongs(load_config(site / "config.toml"))
        if found:
            found.append((site / "log").read_text()[-4000:])
        shutil.rmtree(site.parent)
        return found

    def _copy(self) -> Path:
        site = Path(tempfile.mkdtemp(dir=self._folder)) / "site"
        shutil.copytree(self._folder / "template", site)
        return site

    def _watch(self, site: Path, case: Case) -> list[str]:
        """One life with trouble, until nothing is left to do; what was wrong with it."""
        config = load_config(site / "config.toml")
        life = _Life(self._begin(site, case))
        found = []
        if not wait_until(lambda: life.is_over() or is_empty(config), _LIMIT_S):
            found.append("it did not resume by itself")
        if not life.is_over():
            os.kill(life.pid, signal.SIGTERM)
            if not wait_until(life.is_over, _LIMIT_S):
                found.append("it did not end when it was told to")
        code = life.end()
        if code in (1, 2) and "watching the inbox" not in (site / "log").read_text():
            return []  # it refused to start, and said why: whoever started it does so again
        return found if code == 0 else [*found, f"it ended with {code}"]

    def _begin(self, site: Path, case: Case | None, *arguments: str) -> int:
        """Fork a worker; its process id. The child never returns."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            log = os.open(site / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(site)
            if case:
                self._arm(case.kind, case.number, case.n, site)
            code = self._screen(["watch", *arguments])
            count = self._shim.shim_count()
            self._arm("", 0, 0, site)
            (site / "calls").write_text(str(count))
        finally:
            os._exit(code)

    def _screen(self, arguments: list[str]) -> int:
        try:
            sys.argv[1:] = arguments
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
            return 70
        return 0

    def _arm(self, kind: str, number: int, n: int, site: Path) -> None:
        self._shim.shim_arm(kind.encode(), number, ctypes.c_long(n), os.fsencode(site))


class _Life:
    """A child process, and how it ended."""

    def __init__(self, pid: int) -> None:
        self.pid, self.code = pid, None

    def is_over(self) -> bool:
        if self.code is None:
            gone, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if gone else None
        return self.code is not None

    def end(self) -> int:
        """Exit code; it is killed if it has none yet."""
        if not self.is_over():
            os.kill(self.pid, signal.SIGKILL)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


def sample(calls: int, kind: str, per_kind: int) -> Iterator[Case]:
    """Some calls of a kind, spread over the day, the errors in turn."""
    step = max(1, -(-calls // per_kind))
    for n, number in zip(range(1, calls + 1, step), cycle(ERRORS), strict=False):
        yield Case(kind, number, n)


def every(calls: int, kind: str) -> Iterator[Case]:
    """Each call of a kind with each error."""
    for n, number in product(range(1, calls + 1), ERRORS):
        yield Case(kind, number, n)


def run() -> int:
    """Try the cases asked for; exit code 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every call with every error")
    parser.add_argument("--per-kind", type=int, default=5, help="calls of each kind in a sample")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only calls of this kind")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="screen-syscalls-") as folder:
        sweep = Sweep(Path(folder))
        tried = failed = 0
        for kind in asked.kind or KINDS:
            calls = sweep.calls(kind)
            for case in every(calls, kind) if asked.all else sample(calls, kind, asked.per_kind):
                found = sweep.wrongs(case)
                tried, failed = tried + 1, failed + bool(found)
                print("\n    ".join([f"{case}: {'WRONG' if found else 'ok'}", *found]), flush=True)
    print(f"{tried} cases, {failed} wrong")
    return 1 if failed else 0


def preloaded(shim: Path) -> dict[str, str]:
    """Environment of a Python in which the shim is loaded."""
    return os.environ | {"LD_PRELOAD": str(shim), _SHIM: str(shim)}


def start_again() -> int:
    """Run this program once more, with the shim compiled and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.badday.syscalls", *sys.argv[1:]]
        return subprocess.run(command, env=preloaded(build(Path(folder))), check=False).returncode


if __name__ == "__main__":
    sys.exit(run() if _SHIM in os.environ else start_again())
