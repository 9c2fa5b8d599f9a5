"""Names in done/ and failed/ are free, keep their extension and fit the filesystem."""

import json
import os

import pytest

from worker.intake.shelf import free_name, put_away, write_sidecar


def test_a_free_name_is_kept(tmp_path):
    assert free_name(tmp_path, "film.jpg", 7, ()) == "film.jpg"


def test_a_taken_name_gets_the_number_of_the_file_and_keeps_its_extension(tmp_path):
    (tmp_path / "film.jpg").touch()
    assert free_name(tmp_path, "film.jpg", 7, ()) == "film-7.jpg"


def test_a_name_given_out_in_this_batch_is_taken(tmp_path):
    assert free_name(tmp_path, "film.jpg", 7, {"film.jpg"}) == "film-7.jpg"


def test_a_dangling_link_takes_its_name(tmp_path):
    (tmp_path / "film.jpg").symlink_to("nowhere")
    assert free_name(tmp_path, "film.jpg", 7, ()) == "film-7.jpg"


def test_the_name_of_the_sidecar_must_be_free_too(tmp_path):
    (tmp_path / "film.jpg.json").touch()
    assert free_name(tmp_path, "film.jpg", 7, ()) == "film-7.jpg"


def test_the_sidecar_of_one_film_is_not_written_over_another_of_its_batch(tmp_path):
    """`film.jpg.json`, dropped together with `film.jpg`, lost its content to the sidecar."""
    assert free_name(tmp_path, "film.jpg", 7, {"film.jpg.json"}) == "film-7.jpg"


@pytest.mark.parametrize("stem", ["x" * 251, "ü" * 125, "x" * 247])
def test_a_long_name_is_shortened_so_that_its_sidecar_fits_and_keeps_its_extension(tmp_path, stem):
    name = free_name(tmp_path, f"{stem}.dcm", 7, ())
    assert len(os.fsencode(name + ".json")) <= 255
    assert name.endswith(".dcm")
    (tmp_path / (name + ".json")).touch()


def test_an_endless_extension_is_given_up(tmp_path):
    assert free_name(tmp_path, "f." + "x" * 250, 7, ()) == "film-7-1"


def test_the_last_resort_is_free_too(tmp_path):
    """A film named `film-7` was overwritten by the seventh, whose extension was endless."""
    (tmp_path / "film-7-1").touch()
    assert free_name(tmp_path, "f." + "x" * 250, 7, ()) == "film-7-2"


def test_a_name_that_is_no_text_is_escaped_because_the_database_holds_it(tmp_path):
    """A film named in Latin-1 once stopped the worker at every start."""
    name = free_name(tmp_path, os.fsdecode(b"R\xf6ntgen.jpg"), 7, ())
    assert name == "R\\xf6ntgen.jpg"


def test_putting_away_moves_the_film_and_removes_its_folder(tmp_path):
    claimed = tmp_path / "work" / "claim" / "film.jpg"
    claimed.parent.mkdir(parents=True)
    claimed.write_bytes(b"film")
    put_away(claimed, tmp_path / "film.jpg")
    assert (tmp_path / "film.jpg").read_bytes() == b"film"
    assert not claimed.parent.exists()


def test_putting_away_again_is_harmless(tmp_path):
    claimed = tmp_path / "work" / "claim" / "film.jpg"
    claimed.parent.mkdir(parents=True)
    claimed.write_bytes(b"film")
    put_away(claimed, tmp_path / "film.jpg")
    put_away(claimed, tmp_path / "film.jpg")
    assert (tmp_path / "film.jpg").read_bytes() == b"film"


def test_a_sidecar_says_why_and_has_the_mode_of_the_site(site):
    write_sidecar(site.site, "film.jpg", {"reason": "truncated-file"})
    sidecar = site.site.failed / "film.jpg.json"
    assert json.loads(sidecar.read_text()) == {"reason": "truncated-file"}
    assert sidecar.stat().st_mode & 0o777 == 0o640
