"""Other nodes for tests: DCMTK's tools, Orthanc, our own program; over loopback, on free ports."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.conftest import screen_environment

CR = "1.2.840.10008.5.1.4.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
PATIENT = "Secret^Patient"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_until(holds: Callable[[], object], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        time.sleep(0.02)


def dataset(size: int = 32, sop_class: str = CR, **tags: object) -> Dataset:
    """A small film, complete enough for every peer."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, generate_uid()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = PATIENT, "4711", "20200101"
    ds.PatientSex = "O"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260503", "120000", "1", ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CR", 1, 1
    ds.ReferringPhysicianName = ""
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.random.default_rng(1).integers(0, 4096, (size, size), np.uint16).tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def films(folder: Path, count: int, **tags: object) -> list[Path]:
    """So many DICOM files with UIDs of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        ds = dataset(**tags)
        ds.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)
        made.append(folder / f"{number:04}.dcm")
    return made


def uid_of(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def content_of(file: Path) -> tuple[str, bytes]:
    """SOP instance UID and decoded pixels: what must be the same however it was sent."""
    ds = pydicom.dcmread(file)
    return str(ds.SOPInstanceUID), ds.pixel_array.astype("<u2").tobytes()


def run(*command: object) -> "subprocess.CompletedProcess[str]":
    """Run a tool of DCMTK to its end."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=120
    )


class Process:
    """A peer that runs until it is stopped, or the test ends."""

    def __init__(self, command: Sequence[object], **options: object) -> None:
        self.process = subprocess.Popen(list(map(str, command)), **options)  # type: ignore[call-overload]

    def kill(self, number: int = signal.SIGKILL) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return int(self.process.wait(30))


class Receive(Process):
    """`screen receive`, as people run it."""

    def __init__(self, root: Path, port: int) -> None:
        self.log = root / "receive.log"
        with self.log.open("a") as log:
            super().__init__(
                [sys.executable, "-m", "worker", "receive", "--port", port],
                cwd=root,
                env=screen_environment(),
                stderr=log,
            )
        wait_until(lambda: answers(port) or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()


class Orthanc(Process):
    """An Orthanc with a REST interface; its store outlives it, below `folder`."""

    def __init__(self, folder: Path, dicom: int, http: int, screen_port: int) -> None:
        folder.mkdir(exist_ok=True)
        self.http = http
        settings = {
            "Name": "peer",
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "Plugins": [],
            "HttpPort": http,
            "DicomPort": dicom,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": False,
            "SynchronousCMove": True,
            "DicomModalities": {"screen": ["SCREEN", "127.0.0.1", screen_port]},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with (folder / "orthanc.log").open("a") as log:
            super().__init__(["Orthanc", folder / "orthanc.json"], stdout=log, stderr=log)
        wait_until(lambda: answers(http) and answers(dicom))

    def rest(self, path: str, data: bytes | None = None) -> object:
        """GET, or POST where there are data."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def instances(self) -> list[str]:
        """SOP instance UIDs of all that it holds."""
        held = self.rest("/instances?expand")
        assert isinstance(held, list)
        return [one["MainDicomTags"]["SOPInstanceUID"] for one in held]


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex(("127.0.0.1", port)) == 0


def certificates(folder: Path) -> dict[str, Path]:
    """A CA with certificates for us and a peer, and a stranger's that another CA signed."""
    for authority, names in (("ca", ("us", "peer")), ("other", ("stranger",))):
        _openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-keyout", f"{authority}.key", "-out", f"{authority}.pem", "-days", "2",
                 "-subj", f"/CN={authority}")  # fmt: skip
        for name in names:
            _openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                     "-subj", f"/CN={name}")  # fmt: skip
            (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
            _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem",
                     "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2",
                     "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip
    return {file.name: file for file in folder.iterdir()}


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
