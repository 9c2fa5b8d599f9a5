"""Moves that never overwrite, and what the system may answer."""

import ctypes
import errno
import os

import pytest

from worker import filesystem
from worker.filesystem import move_new, sync_all, works


def libc_says(number):
    """A C library whose renameat2 fails with this errno."""

    class Library:
        @staticmethod
        def renameat2(*_):
            ctypes.set_errno(number)
            return -1

    return Library()


@pytest.fixture(params=["flag", "no flag", "no flag, no links"])
def kind(request, monkeypatch):
    """Filesystems: one that knows RENAME_NOREPLACE, one that does not, one without hard links."""
    if request.param != "flag":
        monkeypatch.setattr(filesystem, "_libc", libc_says(errno.EINVAL))
    if request.param.endswith("no links"):

        def refuse(*_, **__):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(filesystem.os, "link", refuse)
    return request.param


def test_a_move_gives_the_new_name_and_takes_the_old(tmp_path, kind):
    (tmp_path / "a").write_bytes(b"film")
    move_new(tmp_path / "a", tmp_path / "b")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"b": b"film"}


def test_a_move_never_overwrites(tmp_path, kind):
    (tmp_path / "a").write_bytes(b"film")
    (tmp_path / "b").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        move_new(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == b"film"
    assert (tmp_path / "b").read_bytes() == b"other"


def test_a_move_into_a_folder_by_its_descriptor(tmp_path, kind):
    (tmp_path / "a").write_bytes(b"film")
    (tmp_path / "folder").mkdir()
    folder = os.open(tmp_path / "folder", os.O_RDONLY)
    move_new(tmp_path / "a", type(tmp_path)("b"), folder)
    os.close(folder)
    assert (tmp_path / "folder" / "b").read_bytes() == b"film"


def test_what_the_share_refuses_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "_libc", libc_says(errno.EIO))
    (tmp_path / "a").write_bytes(b"film")
    with pytest.raises(OSError, match="Input/output error"):
        move_new(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(filesystem, "_libc", libc_says(errno.EINVAL))
    monkeypatch.setattr(filesystem.os, "link", lambda *_, **__: (tmp_path / "gone").stat())
    with pytest.raises(FileNotFoundError):
        move_new(tmp_path / "a", tmp_path / "b")


def test_syncing_passes_over_what_is_gone_or_no_file(tmp_path):
    (tmp_path / "film").write_bytes(b"film")
    (tmp_path / "link").symlink_to("film")
    sync_all([tmp_path / "film", tmp_path / "gone", tmp_path / "link"], [tmp_path])


def test_syncing_says_what_the_disk_refuses(tmp_path, monkeypatch):
    def refuse(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "film").write_bytes(b"film")
    monkeypatch.setattr(filesystem.os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        sync_all([tmp_path / "film"], [])


def test_a_folder_works_when_it_can_be_written(tmp_path):
    assert works(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert not works(tmp_path / "gone")
