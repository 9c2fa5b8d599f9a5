"""A receiver in this process, and peers that end with their test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.peers import Orthanc, Process, certificates, free_port
from worker.config import Config, load_config
from worker.interop.receive import Receiver, start_receiver
from worker.site import init_site

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
        config, _ = init_site(tmp_path / "site")
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
