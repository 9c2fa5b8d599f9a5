"""Fixtures that all tests share."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.cards import Card, WeightsFile, write_card
from tests.postgres import Server, running_server
from tests.standin import SMALL_PX, StandInScreener, make_card
from worker.config import Config, load_config
from worker.site import init_site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
NOT_ALLOWED = "this machine does not allow"
NOON = datetime(2026, 5, 3, 12, 0, 0, tzinfo=UTC)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With SCREEN_NO_SKIPS, as in CI, a skipped test is a failed one: something is missing.

    What the machine does not allow, to mount say, nobody can install: such tests are skipped and
    named in the summary.
    """
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if os.environ.get("SCREEN_NO_SKIPS") and skipped and NOT_ALLOWED not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For tests that mount images and filesystems in memory."""
    folder = tmp_path_factory.mktemp("mount")
    image, point = folder / "image", folder / "point"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    for source in (["-t", "tmpfs", "none"], ["-o", "loop", str(image)]):
        if "loop" in source:
            subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        mounted = subprocess.run(["mount", *source, str(point)], check=False, capture_output=True)
        if mounted.returncode:
            pytest.skip(f"{NOT_ALLOWED} to mount: {mounted.stderr.decode().strip()}")
        subprocess.run(["umount", str(point)], check=True)


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


@pytest.fixture(scope="module")  # not for longer: its event loop would be in the way of others
def browser() -> "Iterator[Browser]":
    """Debian's Chromium, that asks nobody anything."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's package chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def noon() -> datetime:
    return NOON


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


@pytest.fixture
def screener(card: Card) -> StandInScreener:
    return StandInScreener(card)


@pytest.fixture
def new_screener() -> Callable[[Card], StandInScreener]:
    """Make a stand-in for another model."""
    return StandInScreener


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked `databases` run on each of them; others on the first, SQLite."""
    mark = metafunc.definition.get_closest_marker("databases")
    if "database_kind" in metafunc.fixturenames and mark:
        kinds = mark.args or ("sqlite", "postgresql")
        metafunc.parametrize("database_kind", kinds, indirect=True)


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on: sqlite or postgresql."""
    return getattr(request, "param", "sqlite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of PostgreSQL for the whole session, with a migrated database to copy from."""
    with running_server() as server:
        server.migrate()
        yield server


@pytest.fixture
def database_url(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """URL of a database of the test's kind; that of PostgreSQL has today's schema."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path}/screen.db"
        return
    with request.getfixturevalue("postgres").database(migrated=True) as url:
        yield url


@pytest.fixture
def empty_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database that has no schema; of SQLite there is not even a file."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    with request.getfixturevalue("postgres").database() as url:
        yield url


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Config:
    """A new site, with a database of the test's kind."""
    config, _ = init_site(tmp_path / "site")
    if database_url.startswith("sqlite:"):
        return config
    config.database.file.unlink()
    file = config.root / "config.toml"
    file.write_text(file.read_text().replace("sqlite:///screen.db", database_url))
    return load_config(file)


@pytest.fixture
def quick_site(site: Config) -> Config:
    """A new site whose films settle at once, four to a batch."""
    text = "[watch]\nsettle_s = 0\n[batch]\nsize = 4\nmax_age_s = 0\n"
    (site.root / "config.toml").write_text(text + database_section(site))
    return load_config(site.root / "config.toml")


def database_section(config: Config) -> str:
    """What names the database in a configuration that is written anew."""
    return f'[database]\nurl = "{config.database.url}"\n'


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
