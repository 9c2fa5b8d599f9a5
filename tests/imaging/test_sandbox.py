"""A hostile film harms itself: the child that decodes it may die, the others never notice."""

import errno
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import CancelledError
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.imaging.conftest import WAIT_S, error_of
from worker.config import Decode
from worker.errors import (
    DecoderCrashed,
    DecoderTimeout,
    DecoderUnavailable,
    FilmError,
    LostFile,
    NotAFilm,
    TooLarge,
    UnreadableFile,
)
from worker.imaging import prepare
from worker.imaging.decode import decode
from worker.imaging.limits import DecodeLimits
from worker.imaging.process import DecoderProcess
from worker.imaging.sandbox import DecoderPool
from worker.records import PreparedFilm, Reason


@pytest.fixture(scope="module")
def pool(settings, limits):
    with DecoderPool(settings, limits, processes=2) as pool:
        yield pool


@pytest.fixture
def lone_pool(settings):
    """One child, which has 3 s for a film."""
    with DecoderPool(settings, DecodeLimits(memory_mb=512, timeout_s=3), processes=1) as pool:
        yield pool


def wait_until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_film_arrives_prepared(pool, film, settings, jpeg):
    prepared = pool.submit(film).result(WAIT_S)
    pixels = decode(jpeg).pixels
    expected = prepare.model_input(pixels, 224, settings.stretch_low, settings.stretch_high)
    np.testing.assert_array_equal(prepared.model_input, expected)
    assert (prepared.rows, prepared.columns, prepared.format) == (256, 256, "JPEG")
    assert cv2.imdecode(np.frombuffer(prepared.picture, np.uint8), -1).shape == (256, 256)


def test_tags_notes_and_refusals_cross_the_pipe(pool, tmp_path, dicom):
    (tmp_path / "hand").write_bytes(dicom(BodyPartExamined="HAND", PatientAge="005Y")[132:])
    prepared = pool.submit(tmp_path / "hand").result(WAIT_S)
    assert prepared.refusal is not None
    assert prepared.refusal.reason is Reason.WRONG_BODY_PART
    assert prepared.tags.patient_age_years == 5
    assert prepared.notes == ("no DICOM preamble",)


def test_any_file_name_is_safe(pool, tmp_path, jpeg):
    for name in (b"two\nlines.jpg", b"\xff\xfe\x80.jpg", b'"}\r\n{"path": "00"}', b"-rf *"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.write_bytes(jpeg)
        assert pool.submit(path).result(WAIT_S).format == "JPEG"


def test_links_pipes_folders_and_lost_files_have_their_errors(pool, tmp_path, film):
    (tmp_path / "link.jpg").symlink_to(film)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert isinstance(error_of(pool, tmp_path / "link.jpg"), UnreadableFile)
    assert isinstance(error_of(pool, tmp_path / "pipe.jpg"), UnreadableFile)
    assert isinstance(error_of(pool, tmp_path), UnreadableFile)
    assert isinstance(error_of(pool, tmp_path / "gone.jpg"), LostFile)


def test_errors_keep_their_kind_and_their_words(pool, tmp_path):
    (tmp_path / "text.dcm").write_text("hello")
    error = error_of(pool, tmp_path / "text.dcm")
    assert isinstance(error, NotAFilm)
    assert str(error) == "the content is neither JPEG, PNG nor DICOM"


@pytest.fixture
def asked(monkeypatch):
    """Set when a film has been handed to a child."""
    asked = threading.Event()

    def ask(child, film, hand_over=DecoderProcess.ask, **what):
        given = hand_over(child, film, **what)
        asked.set()
        return given

    monkeypatch.setattr(DecoderProcess, "ask", ask)
    return asked


def _hold(pool, path, asked):
    """Give a stopped child a film and return once it lies in its socket."""
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    state = Path(f"/proc/{pid}/stat")  # the signal takes a moment: the child could still read
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    asked.clear()
    future = pool.submit(path)
    assert asked.wait(WAIT_S)
    return pid, future


def test_a_killed_child_is_a_crash_with_its_signal_and_is_replaced(lone_pool, film, asked):
    lone_pool.submit(film).result(WAIT_S)
    pid, future = _hold(lone_pool, film, asked)
    os.kill(pid, signal.SIGKILL)
    error = future.exception(WAIT_S)
    assert isinstance(error, DecoderCrashed)
    assert error.is_strike
    assert "signal 9" in str(error)
    assert lone_pool.submit(film).result(WAIT_S).format == "JPEG"
    assert lone_pool.pids() != [pid]


def test_a_hanging_child_is_a_timeout_and_is_replaced(lone_pool, film, asked):
    lone_pool.submit(film).result(WAIT_S)
    pid, future = _hold(lone_pool, film, asked)
    assert isinstance(future.exception(WAIT_S), DecoderTimeout)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # dead and reaped
    assert lone_pool.submit(film).result(WAIT_S).format == "JPEG"


def test_a_child_that_dies_between_films_costs_no_film_a_strike(lone_pool, film):
    lone_pool.submit(film).result(WAIT_S)
    (pid,) = lone_pool.pids()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and still for the pool to reap
    assert lone_pool.submit(film).result(WAIT_S).format == "JPEG"


def _png(rows, columns):
    """A black PNG, small as a file however large as a picture."""
    deflate = zlib.compressobj(9)
    row = bytes(columns + 1)
    data = b"".join(deflate.compress(row) for _ in range(rows)) + deflate.flush()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def test_a_memory_bomb_is_too_large_and_the_next_film_is_read(settings, tmp_path, film):
    (tmp_path / "bomb.png").write_bytes(_png(9000, 9000))  # 81 megapixels
    with DecoderPool(settings, DecodeLimits(memory_mb=60), processes=1) as small:
        assert isinstance(error_of(small, tmp_path / "bomb.png"), TooLarge)
        assert small.submit(film).result(WAIT_S).format == "JPEG"


def test_bombs_are_refused_by_their_headers(pool, tmp_path, shared_data):
    (tmp_path / "bomb.png").write_bytes(
        _png(10, 10).replace(struct.pack(">II", 10, 10), struct.pack(">II", 30_000, 30_000))
    )
    assert isinstance(error_of(pool, tmp_path / "bomb.png"), TooLarge)
    bomb = shared_data / "fuzz" / "0001_781_jpg.jpg"
    assert bomb.stat().st_size == 304
    assert isinstance(error_of(pool, bomb), FilmError)


def test_a_file_beyond_the_limit_is_not_read(pool, tmp_path):
    with (tmp_path / "huge.dcm").open("wb") as file:
        file.truncate(1 << 40)
    assert isinstance(error_of(pool, tmp_path / "huge.dcm"), TooLarge)


@pytest.mark.parametrize("folder", ["fuzz", "dicom/malformed", "dicom/chest", "dicom/other"])
def test_every_hostile_file_gives_a_film_or_its_error(pool, shared_data, folder):
    futures = {path.name: pool.submit(path) for path in sorted((shared_data / folder).iterdir())}
    for name, future in futures.items():
        error = future.exception(WAIT_S)
        assert error is None or isinstance(error, FilmError), name
        assert not isinstance(error, (DecoderCrashed, DecoderTimeout)), name
        if error is None:
            assert isinstance(future.result(), PreparedFilm)


def test_children_run_side_by_side(settings, limits, film):
    with DecoderPool(settings, limits, processes=2) as pool:
        for future in [pool.submit(film) for _ in range(40)]:
            future.result(WAIT_S)
        assert len(set(pool.pids())) == 2


def test_a_child_is_replaced_after_its_share_of_films(lone_pool, film, monkeypatch):
    monkeypatch.setattr("worker.imaging.process.FILMS_PER_CHILD", 2)
    pids = []
    for _ in range(4):
        lone_pool.submit(film).result(WAIT_S)
        pids += lone_pool.pids()
    assert len(set(pids)) == 2


def test_closing_cancels_what_waits_and_reaps_the_children(settings, limits, film, asked):
    pool = DecoderPool(settings, limits, processes=1)
    pool.submit(film).result(WAIT_S)
    pid, held = _hold(pool, film, asked)
    waiting = pool.submit(film)
    pool.close()
    pool.close()
    assert isinstance(held.exception(WAIT_S), DecoderUnavailable)  # no strike
    with pytest.raises(CancelledError):
        waiting.result(WAIT_S)
    with pytest.raises(OSError, match=r".*") as caught:
        os.waitpid(pid, os.WNOHANG)
    assert caught.value.errno == errno.ECHILD
    with pytest.raises(DecoderUnavailable):
        pool.submit(film)


ORPHAN = """
import sys, time
from pathlib import Path
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.process import DecoderProcess
from worker.imaging.sandbox import DecoderPool
pool = DecoderPool(PrepareSettings(224, 0.5, 99.5, 512, 85), DecodeLimits(), 1)
pool.submit(Path(sys.argv[1])).result(60)
print(pool.pids()[0], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, None])
def test_children_end_with_their_parent_however_it_ends(film, end):
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(film)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    child = int(parent.stdout.readline())
    if end is not None:
        parent.send_signal(end)
    parent.stdin.close()
    parent.wait(WAIT_S)
    wait_until(lambda: not _runs(child))


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_limits_come_from_the_configuration():
    assert DecodeLimits.from_config(Decode()) == DecodeLimits()
