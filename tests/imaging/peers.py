"""Other programs that write and read DICOM: DCMTK and GDCM, as peers to agree with."""

import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import UID

from worker.imaging import syntaxes as s

# How each syntax is written, losslessly: by DCMTK, and JPEG 2000 by GDCM.
WRITERS = {
    s.IMPLICIT_LITTLE: ("dcmconv", "+ti"),
    s.EXPLICIT_LITTLE: ("dcmconv", "+te"),
    s.EXPLICIT_BIG: ("dcmconv", "+tb"),
    s.DEFLATED: ("dcmconv", "+td"),
    s.RLE: ("dcmcrle",),
    s.JPEG_LOSSLESS: ("dcmcjpeg", "+el", "+un"),
    s.JPEG_LOSSLESS_SV1: ("dcmcjpeg", "+e1", "+un"),
    s.JPEG_LS: ("dcmcjpls", "+un"),
    s.JPEG_2000_LOSSLESS: ("gdcmconv", "--j2k"),
}
# … and read back as stored values in explicit little endian.
_READERS = {
    s.RLE: ("dcmdrle",),
    **dict.fromkeys(
        (s.JPEG_BASELINE, s.JPEG_EXTENDED, s.JPEG_LOSSLESS, s.JPEG_LOSSLESS_SV1), ("dcmdjpeg",)
    ),
    **dict.fromkeys((s.JPEG_LS, s.JPEG_LS_NEAR), ("dcmdjpls",)),
    **dict.fromkeys((s.JPEG_2000_LOSSLESS, s.JPEG_2000), ("gdcmconv", "--raw")),
}
_PACKAGES = {"gdcmconv": "libgdcm-tools"}


def run(tool: str, *arguments: object) -> None:
    """Run a tool; skips where it is not installed, fails where it does."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}: install the Debian package {_PACKAGES.get(tool, 'dcmtk')}")
    subprocess.run([tool, *map(str, arguments)], check=True, capture_output=True, timeout=60)


def rewritten(film: bytes, folder: Path, writer: tuple[str, ...]) -> bytes:
    """The same film as a peer writes it: bytes of a DICOM file."""
    before, after = folder / "before.dcm", folder / "after.dcm"
    before.write_bytes(film)
    after.unlink(missing_ok=True)
    run(*writer, before, after)
    return after.read_bytes()


def explicit(path: Path, folder: Path) -> Path:
    """A film in explicit VR little endian, decompressed by a peer; skips without its tool."""
    syntax = str(pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
    plain = folder / "plain.dcm"
    run(*_READERS.get(syntax, ("dcmconv", "+te")), path, plain)
    return plain


def stored_values(plain: Path) -> NDArray[np.integer]:
    """The stored values of an uncompressed one-sample film, read without any decoder of ours."""
    ds = pydicom.dcmread(plain)
    kind = f"<{'i' if ds.PixelRepresentation else 'u'}{ds.BitsAllocated // 8}"
    return np.frombuffer(ds.PixelData, kind)[: ds.Rows * ds.Columns].reshape(ds.Rows, ds.Columns)


def shown_by_dcmtk(plain: Path, folder: Path) -> NDArray[np.uint8]:
    """Grey levels as `dcm2pnm` shows a film, with its first VOI LUT, else its first window."""
    ds = pydicom.dcmread(plain, stop_before_pixels=True)
    voi = ("+Wl", "1") if ds.get("VOILUTSequence") else ("+Wi", "1")
    picture = folder / "shown.pgm"
    run("dcm2pnm", "--no-overlays", *voi, plain, picture)
    return np.asarray(cv2.imread(str(picture), cv2.IMREAD_UNCHANGED), np.uint8)


def resaved(film: bytes, change: Callable[[pydicom.Dataset], object]) -> bytes:
    """The film with its data set changed by pydicom."""
    ds = pydicom.dcmread(BytesIO(film), force=True)
    change(ds)
    file = BytesIO()
    ds.save_as(file)
    return file.getvalue()


def syntax_name(uid: str) -> str:
    """A short name for test ids."""
    return UID(uid).name.split(" (")[0].split(":")[0]
