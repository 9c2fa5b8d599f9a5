"""The machine and the versions that figures belong to."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from worker import __version__
from worker.filesystem import filesystem_type

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "torchvision", "opencv-python-headless", "numpy", "pillow", "openvino")
_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def machine_facts(scratch: Path) -> dict[str, Any]:
    """What a reader must know to compare; `scratch` is where films and sites lie."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "cpu": _after("/proc/cpuinfo", "model name"),
        "cores": cores(),
        "memory_gb": round(int(_after("/proc/meminfo", "MemTotal").split()[0]) * 1024 / 1e9, 1),
        "kernel": platform.release(),
        "filesystem": filesystem_type(scratch),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "screen": __version__,
        "revision": revision(),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def revision() -> str:
    """The checkout's commit, with a + where files were changed since; `unknown` outside git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    command = ["git", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _after(file: str, name: str) -> str:
    """The value beside a name in one of the kernel's tables; empty if it is not there."""
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
