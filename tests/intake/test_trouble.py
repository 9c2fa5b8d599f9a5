"""What the inbox does when the system refuses."""

import os

import pytest

from worker.intake.inbox import Inbox


@pytest.fixture
def unlistable(monkeypatch):
    """Make a folder refuse to be listed, to root too."""
    real = os.scandir

    def refuse(folder, error):
        def scandir(path):
            if os.fspath(path) == os.fspath(folder):
                raise type(error)(error.errno, error.strerror, os.fspath(path))
            return real(path)

        monkeypatch.setattr("worker.folders.os.scandir", scandir)

    return refuse


def test_a_folder_that_cannot_be_listed_is_passed_over_and_said_once(
    inbox, films, unlistable, caplog
):
    (films / "closed Jane").mkdir()
    (films / "film.txt").write_bytes(b"film")
    unlistable(films / "closed Jane", PermissionError(13, "Permission denied"))
    looks = [inbox.look(now) for now in (0.0, 2.0, 4.0)]
    assert [path.name for path in looks[-1].ready] == ["film.txt"]
    assert caplog.text.count("the inbox holds what we may not take: Permission denied") == 1
    assert "Jane" not in caplog.text


def test_a_folder_that_vanishes_during_a_look_is_no_trouble(inbox, films, unlistable, caplog):
    (films / "gone").mkdir()
    unlistable(films / "gone", FileNotFoundError(2, "No such file or directory"))
    assert inbox.look(0.0).ready == ()
    assert caplog.text == ""


def test_an_inbox_that_cannot_be_listed_says_nothing_of_its_films(inbox, films, unlistable):
    unlistable(films, OSError(5, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        inbox.look(0.0)


def test_a_film_that_cannot_be_opened_is_taken_so_that_its_failure_is_recorded(site, films):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    inbox = Inbox(site.site, site.watch, complete=refuse)
    (films / "film.jpg").write_bytes(b"film")
    looks = [inbox.look(now) for now in (0.0, 2.0, 4.0)]
    assert [path.name for path in looks[-1].ready] == ["film.jpg"]
