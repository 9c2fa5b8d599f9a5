"""What a decoder child does with the films it is handed, looked at from inside this process.

The real thing, confined and in a process of its own, is in test_sandbox and test_confinement; it
cannot write what a coverage tool measures there.
"""

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import jpeg_ls
import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from tests.imaging.conftest import chest_like, encode
from tests.imaging.test_hostile import codestream, encapsulated
from worker.errors import NotAFilm, TooLarge
from worker.imaging import child, handover, raster, wire
from worker.imaging.confine import Isolation

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def limits_set(monkeypatch):
    """The resource limits that would have been set; this process keeps its own."""
    limits_set = {}
    monkeypatch.setattr(child.resource, "setrlimit", limits_set.__setitem__)
    return limits_set


@pytest.fixture
def serve(settings, limits, limits_set, tmp_path):
    """Serve films of these contents, then the end; give what was answered, film by film."""

    def run(*contents, settings=settings):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        tokens = [handover.new_token() for _ in contents]
        with ours, theirs:
            for token, content in zip(tokens, contents, strict=True):
                path = tmp_path / token.hex()
                path.write_bytes(content)
                with path.open("rb") as film:
                    request = handover.Request(token, film.fileno(), len(content))
                    handover.send_request(ours, request)
            ours.shutdown(socket.SHUT_WR)
            answers = io.BytesIO()
            child.serve(theirs, answers, settings, limits)
        answers.seek(0)
        return [_parsed(answers, token, settings) for token in tokens if not _at_end(answers)]

    return run


def _at_end(answers):
    return answers.tell() == len(answers.getbuffer())


def _parsed(answers, token, settings):
    header = wire.parse_header(answers.readline(), token, settings)
    if header.error or header.unreadable:
        return header
    return wire.parse_film(header, answers.read(header.blob_bytes), settings)


def test_films_are_answered_in_turn(serve, jpeg, dicom):
    first, second, third = serve(jpeg, b"no film", dicom(BodyPartExamined="HAND"))
    assert (first.format, first.sha256) == ("JPEG", hashlib.sha256(jpeg).hexdigest())
    assert isinstance(second.error, NotAFilm)
    assert not second.last
    assert third.refusal is not None


@pytest.mark.parametrize("picture_px", [512, 4096])
def test_a_film_is_decoded_once_whatever_its_picture(serve, settings, monkeypatch, picture_px):
    large = np.asarray(cv2.resize(chest_like(), (2100, 2300)) * 255, np.uint8)
    calls = []

    def imdecode(*what, decode=cv2.imdecode):
        calls.append(what)
        return decode(*what)

    monkeypatch.setattr(raster.cv2, "imdecode", imdecode)
    data = encode(".jpg", large)
    (film,) = serve(data, settings=replace(settings, picture_px=picture_px))
    assert len(calls) == 1
    assert (film.rows, film.columns) == (2300, 2100)
    monkeypatch.undo()
    shown = cv2.imdecode(np.frombuffer(film.picture, np.uint8), -1)
    assert shown.shape == ((512, 467) if picture_px == 512 else (2300, 2100))


def test_descriptors_of_films_are_closed(serve, jpeg):
    before = len(list(Path("/proc/self/fd").iterdir()))
    serve(jpeg, b"", jpeg)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("place", ["decode", "_content", "prepare"])
def test_a_child_whose_memory_ran_out_once_leaves(serve, jpeg, monkeypatch, place):
    def fail(*_, **__):
        raise MemoryError

    if place == "prepare":
        monkeypatch.setattr(child.prepare, "model_input", fail)
    else:
        monkeypatch.setattr(child, place, fail)
    (only,) = serve(jpeg, jpeg)
    assert isinstance(only.error, TooLarge)
    assert only.last


def test_a_film_whose_bytes_cannot_be_read_is_not_judged(serve, jpeg, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(child.os, "pread", fail)
    (only,) = serve(jpeg)
    assert only.unreadable
    assert only.error is None


def test_a_film_that_grew_since_it_was_opened_is_read_one_byte_further(tmp_path):
    path = tmp_path / "film"
    path.write_bytes(b"0123456789")
    with path.open("rb") as film:
        assert child._content(handover.Request(b"", film.fileno(), 4)) == b"01234"
        assert child._content(handover.Request(b"", film.fileno(), 20)) == b"0123456789"


def test_a_child_starts_limited_confined_and_ready(settings, limits, limits_set, monkeypatch):
    """`main` on descriptors of its own, with the confinement itself left out."""
    signals, served = [], []
    monkeypatch.setattr(child.sys, "argv", ["child", wire.settings_line(settings, limits)])
    monkeypatch.setattr(child.signal, "signal", lambda *what: signals.append(what))
    monkeypatch.setattr(child, "confine", lambda: Isolation(("seccomp",), ()))
    monkeypatch.setattr(child.socket, "socket", lambda *_, fileno: fileno)
    monkeypatch.setattr(child, "serve", lambda *what: served.append(what))
    reading, writing = os.pipe()
    monkeypatch.setattr(child.os, "dup", lambda _: writing)
    monkeypatch.setattr(child.os, "dup2", lambda *_: None)
    child.main()
    served[0][1].close()
    with os.fdopen(reading, "rb") as said:
        assert wire.parse_ready(said.read()) == Isolation(("seccomp",), ())
    assert served[0][0] == 0
    assert served[0][2:] == (settings, limits)
    assert signals == [(signal.SIGINT, signal.SIG_IGN)]
    resource = child.resource
    assert limits_set[resource.RLIMIT_FSIZE] == (0, 0)
    assert limits_set[resource.RLIMIT_CORE] == (0, 0)
    assert limits_set[resource.RLIMIT_AS][0] > limits.memory_mb << 20


PRELOADED = """
import sys
from pathlib import Path
from worker.imaging import child
from worker.imaging.decode import decode
child.load_everything()
loaded = set(sys.modules)
for path in sys.argv[1:]:
    decode(Path(path).read_bytes())
print(sorted(set(sys.modules) - loaded))
"""


def test_what_the_cheapest_decoders_need_is_loaded_before_confinement(
    tmp_path, dicom, chest, jpeg, png
):
    """Else they fail in the child alone, and dearer ones take their place without a word."""
    films = [
        jpeg,
        png,
        dicom(),
        encapsulated(dicom, JPEGBaseline8Bit, jpeg),
        encapsulated(dicom, JPEG2000Lossless, codestream(chest)),
        encapsulated(dicom, JPEGLSLossless, bytes(jpeg_ls.encode_array(chest))),
    ]
    paths = [tmp_path / str(number) for number in range(len(films))]
    for path, film in zip(paths, films, strict=True):
        path.write_bytes(film)
    command = [sys.executable, "-c", PRELOADED, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]"]
