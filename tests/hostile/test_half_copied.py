"""A half-copied film is never taken, and never decoded: wherever the copy stopped.

Cut means: before the end of the picture, as `tests.hostile.films` finds it with libraries. A file
that lacks only what comes after it (padding, trailing elements) is whole, and is not cut.
"""

import random

import pytest

from tests.hostile.films import SYNTAXES, source_films
from worker.errors import CorruptFile, FilmError, NoPixelData, TruncatedFile
from worker.imaging.decode import decode
from worker.imaging.sniff import is_whole
from worker.intake.inbox import Inbox

CUTS = 200
HEADER_BYTES = 1500  # where most elements and segments begin: a third of the cuts fall here


@pytest.fixture(scope="module")
def films(repository):
    """Every small film that needs no shared data: JPEG, PNG, DICOM in eight syntaxes."""
    return [film for film in source_films(repository, None) if not film.full_size]


def cuts(films):
    """200 random cut points: film, and what is left of it."""
    rng = random.Random(200)
    for number in range(CUTS):
        film = films[number % len(films)]
        most = min(HEADER_BYTES, film.end) if rng.randrange(3) == 0 else film.end
        yield film, film.data[: rng.randrange(1, most)]


def test_the_films_are_of_every_form(films):
    forms = {film.name.rpartition("-")[2] for film in films}
    assert forms >= {"jpeg", "progressive", "restarts", "exif", "png", "png16", *SYNTAXES}


def test_whole_films_are_whole_and_decoded(films):
    for film in films:
        assert is_whole(film.data), film.name
        assert is_whole(film.data[: film.end]), film.name
        assert decode(film.data).pixels.size, film.name


def test_a_film_cut_at_any_of_200_points_is_incomplete(films):
    taken = [(film.name, len(data)) for film, data in cuts(films) if is_whole(data)]
    assert taken == []


def test_a_film_cut_at_any_of_200_points_is_not_decoded(films):
    for film, data in cuts(films):
        with pytest.raises(FilmError) as failure:
            decode(data)
        assert failure.type in (TruncatedFile, NoPixelData), (film.name, len(data))


def test_a_film_cut_at_any_of_200_points_never_becomes_ready(site, films):
    """It stays in the inbox until `incomplete_after_s`: then it fails, as the tests above say."""
    inbox = Inbox(site.site, site.watch)
    for number, (film, data) in enumerate(cuts(films)):
        (site.site.inbox / f"{number:03}{film.extension}").write_bytes(data)
    for second in range(0, int(site.watch.incomplete_after_s), 30):
        look = inbox.look(float(second))
        assert look.ready == ()
    assert len(look.incomplete) == CUTS


def test_a_film_that_grows_is_never_ready_before_it_is_whole(site, films):
    """A slow copy: it stands still for a minute after every step, far longer than settling."""
    inbox, now = Inbox(site.site, site.watch), 0.0
    for film in films[::4]:
        path = site.site.inbox / f"{film.name}{film.extension}"
        step = len(film.data) // 5 + 1
        for size in range(0, len(film.data) + step, step):
            path.write_bytes(film.data[:size])
            for _ in range(6):
                now += 10
                look = inbox.look(now)
                assert size >= film.end or path not in look.ready
        assert path in look.ready
        assert inbox.claim(path) is not None


def test_the_first_bytes_of_a_film_are_not_taken_for_no_film(films):
    """Cut before its kind shows, a film was taken at once and failed as not-a-film."""
    for film in films:
        for size in (1, 2, 7, 127, 131):
            assert not is_whole(film.data[:size])
            with pytest.raises(TruncatedFile):
                decode(film.data[:size])
    assert is_whole(b"hello")


def test_a_radiograph_cut_between_two_early_elements_is_not_complete(films):
    """Before the data set named its SOP class, it was taken for an object without a picture."""
    for film in films:
        if film.extension == ".dcm" and "deflated" not in film.name:
            start = 144 + int.from_bytes(film.data[140:144], "little")
            for size in range(start, start + 80):
                assert not is_whole(film.data[:size]), (film.name, size)


def test_a_film_cut_within_an_element_after_rows_is_truncated(films):
    """It failed as no-pixel-data, which tells nobody to copy it again."""
    (film,) = (film for film in films if film.name == "made-explicit")
    rows = film.data.index(b"\x28\x00\x10\x00US")
    for size in range(rows + 11, rows + 20):
        with pytest.raises(TruncatedFile):
            decode(film.data[:size])


def test_damage_that_is_no_cut_is_still_corrupt(films):
    (film,) = (film for film in films if film.name == "made-jpeg")
    damaged = film.data.replace(b"MONOCHROME2 ", b"MONOCHROME\xff ")
    with pytest.raises(CorruptFile):
        decode(
            damaged.replace(b"\x28\x00\x00\x01US\x02\x00\x08", b"\x28\x00\x00\x01US\x02\x00\x07")
        )
