"""A receiver in this process, and peers that end with their test."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.interop.peers import SR, Orthanc, Process, certificates, dataset, free_port
from worker.config import Config, load_config
from worker.interop.receive import Receiver, start_receiver
from worker.site import init_site
from worker.store.database import open_database

PEERS = 'peers = ["STORESCU@127.0.0.1", "ECHOSCU@127.0.0.1", "ORTHANC@127.0.0.1"]\n'


@pytest.fixture(scope="session")
def dcmtk() -> None:
    """DCMTK's network tools."""
    for tool in ("storescu", "echoscu", "storescp", "dcmcjpeg"):
        if not shutil.which(tool):
            pytest.skip("DCMTK is not installed (Debian's dcmtk)")


@pytest.fixture(scope="session")
def openssl(tmp_path_factory) -> dict[str, Path]:
    """Certificates."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], Config]:
    """A new site with these lines in its [dicom] and what stands after it."""

    def make(lines: str = PEERS) -> Config:
        if not (tmp_path / "site").exists():
            init_site(tmp_path / "site")
        config = load_config(tmp_path / "site" / "config.toml")
        (config.root / "config.toml").write_text(f"[dicom]\n{lines}")
        return load_config(config.root / "config.toml")

    return make


@pytest.fixture
def listening(configured) -> Iterator[Callable[..., Receiver]]:
    """Start a receiver on a free port: `listening(lines, check=…)`."""
    with ExitStack() as ending:

        def start(lines: str = PEERS, check: Callable[[], None] = lambda: None) -> Receiver:
            receiver = start_receiver(configured(lines), check, port=0)
            ending.callback(receiver.stop, 0)
            return receiver

        yield start


@pytest.fixture
def inbox(tmp_path: Path) -> Callable[[], list[Path]]:
    """What lies in the site's inbox, hidden files too."""
    return lambda: sorted((tmp_path / "site" / "inbox").iterdir())


@pytest.fixture
def started() -> Iterator[Callable[..., Process]]:
    """Start a process that ends with the test: `started(Receive, root, port)`."""
    with ExitStack() as ending:

        def start(kind: type[Process], *arguments: object) -> Process:
            process = kind(*arguments)
            ending.callback(process.kill)
            return process

        yield start


@pytest.fixture
def orthanc(tmp_path: Path, started) -> Callable[[int], Orthanc]:
    """Start an Orthanc that knows us at this port; again after it was killed, with its store."""
    if not shutil.which("Orthanc"):
        pytest.skip("Orthanc is not installed (Debian's orthanc)")
    dicom, http = free_port(), free_port()

    def start(screen_port: int) -> Orthanc:
        peer = started(Orthanc, tmp_path / "orthanc", dicom, http, screen_port)
        peer.dicom = dicom
        return peer

    return start


@pytest.fixture
def outbox() -> Iterator[Callable[[Config, int], tuple[Engine, list[str]]]]:
    """Put so many answers into a site's outbox, made and due; gives the database and their UIDs."""
    with ExitStack() as ending:

        def fill(config: Config, count: int) -> tuple[Engine, list[str]]:
            engine = open_database(config.database)
            ending.callback(engine.dispose)
            return engine, [_answer(config) for _ in range(count)]

        yield fill


def _answer(config: Config) -> str:
    """An answer as if it had been made; its screening is not there, which sending does not ask."""
    ds = dataset(sop_class=SR, Modality="SR")
    for tag in ("Rows", "Columns", "PixelData"):
        delattr(ds, tag)
    uid = str(ds.SOPInstanceUID)
    config.dicom.answers.mkdir(exist_ok=True)
    ds.save_as(config.dicom.answers / f"{uid}.dcm", enforce_file_format=True)
    with closing(sqlite3.connect(config.database.file)) as database, database:  # no foreign keys
        database.execute(
            "INSERT INTO answers (screening_id, kind, sop_instance_uid, state, file, attempts, "
            "due_at, made_at) SELECT 1 + count(*), 'sr', :uid, 'made', :uid || '.dcm', 0, :now, "
            ":now FROM answers",
            {"uid": uid, "now": "2026-05-03 12:00:00.000000"},
        )
    return uid
