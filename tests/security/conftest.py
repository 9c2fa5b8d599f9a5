"""Films that mean harm: hostile tags, hostile names, and a site that has met them."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from worker.config import Config, load_config
from worker.site import init_site

MARKER = "mArKeR7"  # stands in every hostile tag and name
ATTACKS = {
    "script": f"</style></script><script>alert('{MARKER}')</script>",
    "attribute": f"\"'><svg onload=alert(1)>{MARKER}",
    "link": f"javascript:alert(1)//{MARKER}",
    "hidden": f"\u202e{MARKER}\u200b\x00\x1b[31m\r\nWARNING all is well",
    "endless": f"<img src=x onerror=alert(1)>{MARKER}" * 1300,
    "formula": f'=HYPERLINK("http://evil.example/{MARKER}")',
    "sql": f"{MARKER}'); DROP TABLE films;--",
    "template": f"{{{{ 7*7 }}}}{{% raw %}}{MARKER}",
}
TAGS = (
    *("Manufacturer", "ViewPosition", "BodyPartExamined", "PatientAge", "Modality"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientName", "PatientID"),
    *("StudyDescription", "SeriesDescription", "ProtocolName", "InstitutionName"),
    *("PhotometricInterpretation", "PatientSpeciesDescription", "WindowCenterWidthExplanation"),
)
NAMES = [
    f"<img src=x onerror=alert(1)>{MARKER}.dcm",
    f'"><svg onload=alert(1)>{MARKER}.dcm',
    f"=cmd|' {MARKER}'!A0.dcm",
    f" \t=1+1{MARKER}.dcm",
    f"\x1b]0;{MARKER}\x07\x1b[2J.dcm",
    f"a\nERROR {MARKER}\r.dcm",
    f"\u202egpj.{MARKER}.dcm",
    f"a\\..\\..\\{MARKER}.dcm",
    f"'); DROP TABLE files;-- {MARKER}.dcm",
    f"--help {MARKER}.dcm",
    f"😀{'😀' * 55}{MARKER}.dcm",
    os.fsdecode(b"R\xf6ntgen \xff" + MARKER.encode() + b".dcm"),
]


def hostile_dicom(attack: str, seed: int, only: str | None = None) -> bytes:
    """A chest film that decodes, with an attack in one text attribute, or in every one."""
    rows = np.random.default_rng(seed).integers(0, 4096, (160, 128)).astype(np.float32)
    pixels = cv2.GaussianBlur(rows, (0, 0), 9).clip(0, 4095).astype(np.uint16)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # values may be of any length
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.tobytes()
    with warnings.catch_warnings(), _anything_goes():
        warnings.simplefilter("ignore")
        ds.SpecificCharacterSet = "ISO_IR 192"
        for keyword in (only,) if only else TAGS:
            if only or keyword != "PhotometricInterpretation":  # then nothing would decode
                tag = pydicom.datadict.tag_for_keyword(keyword)
                ds[tag] = pydicom.DataElement(tag, "UT", attack)  # implicit: its VR is not written
        file = BytesIO()
        pydicom.dcmwrite(file, ds, enforce_file_format=False)
    return file.getvalue()


@contextmanager
def _anything_goes() -> Iterator[None]:
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    try:
        yield
    finally:
        pydicom.config.settings.writing_validation_mode = before


@pytest.fixture(scope="session")
def hostile_films() -> dict[str, bytes]:
    """File name → content: every attack in all tags, in single tags, and every hostile name."""
    films = {
        f"{kind}.dcm": hostile_dicom(attack, seed)
        for seed, (kind, attack) in enumerate(ATTACKS.items())
    }
    for seed, keyword in enumerate(("Modality", "BodyPartExamined", "PatientAge"), start=50):
        films[f"only {keyword}.dcm"] = hostile_dicom(ATTACKS["script"], seed, keyword)
    films |= {
        name: hostile_dicom(ATTACKS["attribute"], seed)
        for seed, name in enumerate(NAMES, start=100)
    }
    films[f"broken <b>{MARKER}.dcm"] = hostile_dicom(ATTACKS["script"], 200)[:-500]
    films[f"no film {MARKER}.dcm"] = ATTACKS["script"].encode()
    return films


def scripts_of(page: Path) -> int:
    """How many scripts a page has, all of them ours."""
    return {"films": 3, "reports": 2}.get(page.parent.name, 1)


def real_site(folder: Path, model: Path) -> Config:
    """A site that runs the tiny model; its films settle at once."""
    config, _ = init_site(folder)
    (config.root / "config.toml").write_text(
        "[watch]\nsettle_s = 0\nincomplete_after_s = 0.1\nscan_interval_s = 0.2\n"
        "[decode]\nprocesses = 2\n[report]\npicture_px = 256\n"
        f"[model]\nname = '{model}'\nprecision = 'float32'\ndevice = 'cpu'\n"
    )
    return load_config(config.root / "config.toml")


@dataclass(frozen=True)
class Met:
    """A site after a run of the real program over hostile films, and what that said."""

    config: Config
    watched: CompletedProcess[str]
    filled: CompletedProcess[str]
    archive: Path


@pytest.fixture(scope="session")
def met(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    hostile_films: dict[str, bytes],
    screen: Callable[..., CompletedProcess[str]],
) -> Met:
    """`watch --once` over half of the hostile films, `backfill` over all of them."""
    root = tmp_path_factory.mktemp("hostile")
    config = real_site(root / "site", tiny_model)
    archive = root / "archive"
    archive.mkdir()
    for number, (name, content) in enumerate(hostile_films.items()):
        (archive / name).write_bytes(content)
        if number % 2 or MARKER in name:
            (config.site.inbox / name).write_bytes(content)
    watched = screen("watch", "--once", cwd=config.root)
    filled = screen("backfill", archive, cwd=config.root)
    return Met(config, watched, filled, archive)
