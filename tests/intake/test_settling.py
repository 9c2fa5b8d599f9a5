"""A file is taken when it has stayed the same for long enough, and is whole; not before."""

import os

import pytest

from worker.intake.inbox import Inbox
from worker.intake.names import is_temporary


def look_often(inbox, start=0.0, end=10.0):
    """Look every half second; the last look."""
    looks = [inbox.look(start + i / 2) for i in range(int((end - start) * 2) + 1)]
    return looks[-1]


def test_a_film_is_ready_after_several_equal_looks_over_the_settling_time(inbox, films, jpeg):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    assert inbox.look(0.0).unsettled == (film,)
    assert inbox.look(1.0).unsettled == (film,)
    assert inbox.look(2.0).ready == (film,)


def test_two_looks_are_too_few_however_far_apart(inbox, films, jpeg):
    (films / "film.jpg").write_bytes(jpeg)
    inbox.look(0.0)
    assert inbox.look(1000.0).ready == ()


def test_many_looks_are_not_enough_within_the_settling_time(inbox, films, jpeg):
    (films / "film.jpg").write_bytes(jpeg)
    looks = [inbox.look(i / 100) for i in range(100)]
    assert not any(look.ready for look in looks)


def test_a_film_that_grows_begins_to_settle_again(inbox, films, jpeg):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    inbox.look(0.0)
    inbox.look(1.0)
    with film.open("ab") as file:
        file.write(b"more")
    assert inbox.look(2.0).unsettled == (film,)
    assert inbox.look(3.0).unsettled == (film,)
    assert inbox.look(4.0).ready == (film,)


def test_a_film_written_over_at_the_same_size_begins_again(inbox, films, jpeg):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    look_often(inbox, end=1.5)
    status = film.stat()
    os.utime(film, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert inbox.look(2.0).ready == ()


def test_a_film_replaced_by_another_file_of_the_same_size_and_time_begins_again(
    inbox, films, jpeg, tmp_path
):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    look_often(inbox, end=1.5)
    status = film.stat()
    (tmp_path / "other").write_bytes(jpeg)
    os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "other").replace(film)
    assert inbox.look(2.0).ready == ()


@pytest.mark.parametrize("mtime", [0, 4_000_000_000])
def test_the_clock_of_the_file_server_does_not_matter(inbox, films, jpeg, mtime):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    os.utime(film, (mtime, mtime))
    assert inbox.look(0.0).ready == ()
    assert look_often(inbox, start=0.5, end=2.0).ready == (film,)


def test_a_network_share_gets_its_longer_settling_time(site, monkeypatch):
    monkeypatch.setattr("worker.intake.inbox.is_network", lambda _: True)
    assert Inbox(site.site, site.watch).settle_s == site.watch.settle_network_s


def test_films_in_subfolders_are_seen_and_links_are_not(inbox, films, jpeg, tmp_path):
    (films / "a" / "b").mkdir(parents=True)
    (films / "a" / "b" / "film.jpg").write_bytes(jpeg)
    (tmp_path / "outside.jpg").write_bytes(jpeg)
    (films / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (films / "folder").symlink_to(tmp_path)
    os.mkfifo(films / "pipe.jpg")
    assert inbox.look(0.0).unsettled == (films / "a" / "b" / "film.jpg",)


@pytest.mark.parametrize(
    "name", [".film.jpg", ".film.jpg.Xy12Z", "film.jpg~", "film.PART", "film.dcm.filepart", "f.tmp"]
)
def test_what_a_tool_is_still_writing_is_left_alone(inbox, films, jpeg, name):
    (films / name).write_bytes(jpeg)
    look = look_often(inbox)
    assert (look.ready, look.unsettled, look.incomplete) == ((), (), ())


@pytest.mark.parametrize("name", ["film.jpg", "film", "part.dcm", "tmp", "film.part.dcm"])
def test_other_names_are_films_with_or_without_extension(name):
    assert not is_temporary(name)


def test_a_temporary_name_that_becomes_a_film_settles_from_then(inbox, films, jpeg):
    (films / "film.part").write_bytes(jpeg)
    look_often(inbox)
    (films / "film.part").rename(films / "film.jpg")
    assert inbox.look(11.0).unsettled == (films / "film.jpg",)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.99])
def test_a_jpeg_cut_short_is_not_ready_however_long_it_rests(inbox, films, jpeg, share):
    film = films / "film.jpg"
    film.write_bytes(jpeg[: int(share * len(jpeg))])
    look = look_often(inbox, end=599.0)
    assert look.ready == ()
    assert look.incomplete == (film,)


def test_a_jpeg_cut_short_is_handed_on_after_its_time(inbox, films, jpeg):
    film = films / "film.jpg"
    film.write_bytes(jpeg[:-100])
    look_often(inbox, end=599.5)
    assert inbox.look(600.0).ready == (film,)


def test_the_rest_of_a_jpeg_makes_it_ready_once_it_has_settled(inbox, films, jpeg):
    film = films / "film.jpg"
    film.write_bytes(jpeg[:-100])
    assert look_often(inbox).incomplete == (film,)
    with film.open("ab") as file:
        file.write(jpeg[-100:])
    assert inbox.look(11.0).unsettled == (film,)
    assert look_often(inbox, start=11.5, end=13.0).ready == (film,)


def test_a_copy_that_stalls_for_long_and_goes_on_is_given_its_time_again(inbox, films, jpeg):
    film = films / "film.jpg"
    film.write_bytes(jpeg[:100])
    look_often(inbox, end=500.0)
    film.write_bytes(jpeg[:200])
    assert look_often(inbox, start=501.0, end=1000.0).incomplete == (film,)


def test_a_file_that_vanishes_while_the_inbox_is_scanned_is_no_error(inbox, films, jpeg):
    """An uploader renames its temporary file between listing and stat; once stopped intake."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (films / name).write_bytes(jpeg)
    vanishing = Inbox(inbox._site, inbox._watch, complete=lambda _: vanish(films / "c.jpg"))
    vanishing.look(0.0)
    vanishing.look(1.0)
    assert vanishing.look(2.0).ready == (films / "a.jpg", films / "b.jpg")


def vanish(path):
    path.unlink(missing_ok=True)
    return True


def test_a_missing_inbox_is_an_error_and_says_nothing_of_its_films(inbox, films):
    """An unmounted share must not look like an empty inbox."""
    films.rmdir()
    with pytest.raises(OSError, match="inbox"):
        inbox.look(0.0)
