"""Claiming is one rename: a film is in the inbox or in work/, never in both, never lost."""

import errno
import os

import pytest

from worker.folders import open_folder
from worker.intake.claims import put_back
from worker.intake.inbox import Inbox


def settled(inbox):
    """The paths that are ready after 10 s."""
    return [inbox.look(float(second)) for second in range(10)][-1].ready


def back(claimed, path):
    """Put a claimed film back to where it was."""
    folder = open_folder(path.parent)
    try:
        return put_back(claimed, folder, path.name)
    finally:
        os.close(folder)


def drop(folder, name, content):
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_claimed_film_lies_alone_in_a_folder_of_work(inbox, films, site, jpeg):
    path = drop(films, "film.jpg", jpeg)
    (ready,) = settled(inbox)
    found = inbox.claim(ready)
    assert found.path == site.site.work / found.claim / "film.jpg"
    assert found.path.read_bytes() == jpeg
    assert not path.exists()
    assert (found.file, found.source, found.size) == ("film.jpg", "inbox", len(jpeg))


def test_two_films_of_one_name_from_two_subfolders_do_not_collide(inbox, films, jpeg):
    drop(films, "a/film.jpg", jpeg)
    drop(films, "b/film.jpg", jpeg + b"2")
    first, second = (inbox.claim(path) for path in settled(inbox))
    assert (first.file, second.file) == ("a/film.jpg", "b/film.jpg")
    assert (first.path.read_bytes(), second.path.read_bytes()) == (jpeg, jpeg + b"2")


def test_a_film_that_another_worker_claimed_is_not_to_be_had(inbox, films, site, jpeg):
    drop(films, "film.jpg", jpeg)
    other = Inbox(site.site, site.watch)
    (ready,) = settled(inbox)
    assert settled(other) == (ready,)
    assert other.claim(ready) is not None
    assert inbox.claim(ready) is None
    assert len(list(site.site.work.iterdir())) == 1


def test_only_a_film_that_was_looked_at_can_be_claimed(inbox, films, jpeg):
    path = drop(films, "film.jpg", jpeg)
    assert inbox.claim(path) is None
    assert path.exists()


def test_a_film_that_changes_between_look_and_claim_goes_back(inbox, films, site, jpeg):
    path = drop(films, "film.jpg", jpeg)
    settled(inbox)
    with path.open("ab") as file:
        file.write(b"more")
    assert inbox.claim(path) is None
    assert path.read_bytes() == jpeg + b"more"
    assert list(site.site.work.iterdir()) == []


def test_a_film_that_went_back_settles_from_the_beginning(inbox, films, jpeg):
    path = drop(films, "film.jpg", jpeg)
    settled(inbox)
    path.write_bytes(jpeg + b"more")
    inbox.claim(path)
    assert inbox.look(20.0).unsettled == (path,)


def test_a_film_that_goes_back_leaves_a_newer_one_of_its_name_alone(films, site, jpeg):
    folder = site.site.work / "claim"
    claimed = drop(folder, "film.jpg", jpeg)
    newer = drop(films, "film.jpg", b"newer")
    assert back(claimed, newer)
    assert newer.read_bytes() == b"newer"
    assert (films / "claim.jpg").read_bytes() == jpeg
    assert not folder.exists()


def test_a_film_goes_back_where_the_filesystem_has_no_hard_links(films, site, jpeg, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    claimed = drop(site.site.work / "claim", "film.jpg", jpeg)
    monkeypatch.setattr(os, "link", refuse)
    assert back(claimed, films / "film.jpg")
    assert (films / "film.jpg").read_bytes() == jpeg


def test_a_claim_that_the_share_refuses_leaves_no_folder_behind(
    inbox, films, site, jpeg, monkeypatch
):
    """A film that could not be renamed once left an empty folder in work/ at every try."""

    def refuse(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    path = drop(films, "film.jpg", jpeg)
    settled(inbox)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"):
        inbox.claim(path)
    assert list(site.site.work.iterdir()) == []
    assert path.exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.EUCLEAN])
def test_a_film_that_may_not_be_moved_stops_no_other(inbox, films, jpeg, monkeypatch, number):
    """In a sticky inbox, or open on a Windows machine, one film used to pause the intake of all."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    path = drop(films, "film.jpg", jpeg)
    settled(inbox)
    monkeypatch.setattr(os, "rename", refuse)
    assert inbox.claim(path) is None
    later = [inbox.look(10.0 + second) for second in range(10)][-1]
    assert (later.ready, later.untakable) == ((), (path,))
    mended = [inbox.look(100.0 + second) for second in range(10)][-1]
    assert (mended.ready, mended.untakable) == ((path,), ())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"two\nlines.jpg", "two\nlines.jpg"),
        (b"\xff\xfe.jpg", "\\xff\\xfe.jpg"),
        ("Übersicht 1.jpg".encode(), "Übersicht 1.jpg"),
        (b"-rf *.jpg", "-rf *.jpg"),
        (b"x" * 251 + b".jpg", "x" * 251 + ".jpg"),
    ],
    ids=["newline", "no UTF-8", "umlaut", "dash", "255 bytes"],
)
def test_any_name_is_claimed_and_its_shown_name_is_text(inbox, films, jpeg, name, shown):
    drop(films, name, jpeg)
    (ready,) = settled(inbox)
    found = inbox.claim(ready)
    assert found.file == shown
    assert found.file.encode()  # any database can hold it
    assert os.fsencode(found.path.name) == name


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])
def test_what_work_refuses_is_not_a_matter_of_the_film(inbox, films, site, jpeg, number):
    """A closed work/ looked like films without rights, and intake did not say that it paused."""
    path = drop(films, "film.jpg", jpeg)
    (ready,) = settled(inbox)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with pytest.raises(OSError, match=os.strerror(number)):
            inbox.claim(ready)
    assert path.exists()
    assert [inbox.look(20.0 + second) for second in range(5)][-1].ready == (path,)
