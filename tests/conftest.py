"""Fixtures that all tests share."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from models.cards import (
    Calibration,
    Card,
    DecisionConstants,
    GuardConstants,
    HeatMapConstants,
    InputConstants,
    Population,
    PrecisionConstants,
    WeightsFile,
    write_card,
)
from worker.config import Config, load_config
from worker.errors import FilmError
from worker.records import Decision, PreparedFilm, Record, Tags
from worker.site import init_site

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
NOON = datetime(2026, 5, 3, 12, 0, 0, tzinfo=UTC)
SMALL_PX = 96  # input of the test model: the network runs in milliseconds


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With SCREEN_NO_SKIPS, as in CI, a skipped test is a failed one: something is missing."""
    report = yield
    if os.environ.get("SCREEN_NO_SKIPS") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data folder beside the checkout; tests that want it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no test data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def sample_films() -> Path:
    """The 16 validation films in class folders; only ever read."""
    return REPOSITORY / "tests" / "films"


@pytest.fixture
def noon() -> datetime:
    return NOON


def make_card(**changes: object) -> Card:
    """A complete card; keywords replace whole parts."""
    values = {
        "name": "tiny",
        "version": "0",
        "members": ({"architecture": "mobilenet_v2", "mean": 0.449, "std": 0.226},),
        "labels": ("NORMAL", "PNEUMONIA"),
        "weights": WeightsFile(file="weights.safetensors", sha256="cd" * 32),
        "input": InputConstants(size_px=SMALL_PX, low_percentile=1, high_percentile=99),
        "calibration": Calibration(slope=2.0, offset=-0.5, fitted_on="nothing"),
        "decision": DecisionConstants(threshold=0.6, indeterminate=(0.5, 0.7), chosen_on="-"),
        "guard": GuardConstants(threshold=0.5, fitted_on="nothing"),
        "heat_map": HeatMapConstants(evidence_scale=4.0),
        "precision": PrecisionConstants(
            bfloat16_decisions_changed=0, bfloat16_mean_probability_change=0.001
        ),
        "population": Population(description="children", min_age_years=1, max_age_years=5),
        "intended_use": "tests",
        "not_for": ("patients",),
        "training": {},
        "metrics": {},
    }
    return Card.model_validate({**values, **changes})


@pytest.fixture
def card() -> Card:
    return make_card()


@pytest.fixture
def new_card() -> Callable[..., Card]:
    """Make a card with parts replaced."""
    return make_card


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights of a fixed seed; its guard lets everything pass."""
    import torch

    from models.architectures import build
    from models.weights import write_weights

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    torch.manual_seed(7)
    classifier = build("mobilenet_v2", SMALL_PX, 0.449, 0.226)
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # take the statistics of the batch below, or no signal passes
    with torch.no_grad():
        coarse = torch.rand(8, 1, 6, 6)
        classifier.train()(coarse.repeat_interleave(16, 2).repeat_interleave(16, 3))
        classifier.head.weight *= 5  # spread the probabilities
        classifier.head.bias.copy_(torch.tensor([0.25, -0.1]))
    channels, axes = sum(classifier.depth_sizes), 4
    guard = {
        "centre": torch.zeros(channels),
        "basis": torch.randn(channels, axes) / channels,
        "adult_weight": torch.zeros(axes),
        "adult_bias": torch.tensor(-20.0),
    }
    for name in ("film", "chest"):
        guard |= {
            f"{name}_mean": torch.zeros(axes),
            f"{name}_precision": torch.eye(axes),
            f"{name}_limit": torch.tensor(1e3),
        }
    sha256 = write_weights([classifier.net.state_dict()], guard, folder / "weights.safetensors")
    weights = WeightsFile(file="weights.safetensors", sha256=sha256)
    write_card(make_card(weights=weights), folder)
    return folder


class StandInScreener:
    """Answers like `worker.screening.Screener`, without processes and without a network.

    `errors` maps contents to the errors their decoding raises in turn; the last one stays.
    """

    def __init__(self, card: Card) -> None:
        self.card, self.preprocessing, self.identity = card, "prepare-1/constants-0", "ef" * 32
        self.engine = SimpleNamespace(device="cpu", precision="float32")
        self.errors: dict[bytes, list[FilmError | None]] = {}
        self.decoded: list[str] = []
        self.answered: list[list[str]] = []

    def decode(self, path: Path) -> "Future[PreparedFilm]":
        """Any content is a film, unless `errors` says otherwise."""
        self.decoded.append(path.name)
        future: Future[PreparedFilm] = Future()
        content = path.read_bytes()
        errors = self.errors.get(content, [None])
        error = errors.pop(0) if len(errors) > 1 else errors[0]
        if error is None:
            future.set_result(prepared_film(content))
        else:
            future.set_exception(error)
        return future

    def answer(self, films, files, contents):
        """The first byte of the SHA-256 is the probability."""
        from worker.screening import Answered

        if films:
            self.answered.append(list(files))
        return [
            Answered(self._record(file, sha256), film, np.full((3, 3), 0.5, np.float32))
            for film, file, sha256 in zip(films, files, contents, strict=True)
        ]

    def _record(self, file: str, sha256: str) -> Record:
        probability = int(sha256[:2], 16) / 255
        above = probability >= self.card.decision.threshold
        return Record(
            file=file,
            sha256=sha256,
            decision=Decision.PNEUMONIA if above else Decision.NORMAL,
            probability=probability,
            threshold=self.card.decision.threshold,
            guard_score=0.25,
            guard_threshold=self.card.guard.threshold,
            reason=None,
            message="made up",
            model=self.card.name,
            weights_sha256=self.card.weights.sha256,
        )

    def close(self) -> None:
        """Nothing to close."""


def prepared_film(content: bytes) -> PreparedFilm:
    """What a decoder would make of some content."""
    _, picture = cv2.imencode(".jpg", np.full((8, 8), content[0] if content else 0, np.uint8))
    pixels = np.zeros((SMALL_PX, SMALL_PX), np.float32)
    sha256 = hashlib.sha256(content).hexdigest()
    return PreparedFilm(sha256, pixels, picture.tobytes(), "JPEG", 8, 8, Tags(), (), None)


@pytest.fixture
def screener(card: Card) -> StandInScreener:
    return StandInScreener(card)


@pytest.fixture
def new_screener() -> Callable[[Card], StandInScreener]:
    """Make a stand-in for another model."""
    return StandInScreener


@pytest.fixture
def site(tmp_path: Path) -> Config:
    """A new site."""
    config, _ = init_site(tmp_path / "site")
    return config


@pytest.fixture
def quick_site(site: Config) -> Config:
    """A new site whose films settle at once, four to a batch."""
    text = "[watch]\nsettle_s = 0\n[batch]\nsize = 4\nmax_age_s = 0\n"
    (site.root / "config.toml").write_text(text)
    return load_config(site.root / "config.toml")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, tuple[object, ...]]]:
    """What lies below a folder: name → mode, size, time and content of each file and folder."""

    def look(folder: Path) -> dict[str, tuple[object, ...]]:
        found = {}
        for path in [folder, *sorted(folder.rglob("*"))]:
            status = path.stat(follow_symlinks=False)
            content = sha256(path.read_bytes()) if path.is_file() else ""
            found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
        return found

    return look


Screen = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def screen() -> Screen:
    """Run the real program: `screen("init", folder, cwd=...)`."""

    def run(*arguments: object, cwd: Path, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "worker", *map(str, arguments)],
            cwd=cwd,
            env=screen_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    return run


def screen_environment() -> dict[str, str]:
    """Ours, with the checkout importable from any folder and few threads."""
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "2"}
