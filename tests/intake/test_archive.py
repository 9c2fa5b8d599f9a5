"""An archive is walked in one order, links are not followed, and nothing in it changes."""

import os
from pathlib import Path

import pytest

from worker.folders import regular_files
from worker.intake.archive import archive_files, count_files


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    for name in ("b.dcm", "a/z.dcm", "a/y/x.dcm", "a.dcm", "Z.dcm", "ä.dcm"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_files_come_sorted_by_the_bytes_of_their_names_folders_among_them(archive):
    names = [str(path.relative_to(archive)) for path in regular_files(archive)]
    assert names == ["Z.dcm", "a/y/x.dcm", "a/z.dcm", "a.dcm", "b.dcm", "ä.dcm"]


def test_links_pipes_and_loops_are_passed_over(archive, tmp_path):
    before = list(regular_files(archive))
    (archive / "a" / "loop").symlink_to(archive)
    (archive / "link.dcm").symlink_to(archive / "b.dcm")
    (archive / "dangling.dcm").symlink_to("nowhere")
    os.mkfifo(archive / "pipe.dcm")
    assert list(regular_files(archive)) == before


def test_a_file_that_vanishes_while_its_folder_is_walked_is_left_out(archive):
    walk = archive_files(archive)
    first = next(walk)
    (archive / "b.dcm").unlink()
    (archive / "a" / "z.dcm").unlink()
    assert [each.path.name for each in (first, *walk)] == ["Z.dcm", "x.dcm", "a.dcm", "ä.dcm"]


def test_walking_changes_nothing(archive, tree):
    before = tree(archive)
    assert len(list(archive_files(archive))) == 6
    assert tree(archive) == before


def test_a_file_keeps_the_name_it_was_given_by_and_is_found_from_anywhere(
    archive, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = list(archive_files((archive / "a").relative_to(tmp_path)))
    assert [each.file for each in found] == ["archive/a/y/x.dcm", "archive/a/z.dcm"]
    assert [each.path for each in found] == [archive / "a/y/x.dcm", archive / "a/z.dcm"]
    assert {each.source for each in found} == {str(archive / "a")}
    assert {each.claim for each in found} == {""}


def test_the_working_directory_is_an_archive_too(archive, monkeypatch):
    monkeypatch.chdir(archive)
    found = list(archive_files(Path()))
    names = ["Z.dcm", "a/y/x.dcm", "a/z.dcm", "a.dcm", "b.dcm", "ä.dcm"]
    assert [each.file for each in found] == names
    assert [each.path for each in found] == [archive / name for name in names]


def test_a_linked_archive_is_known_by_where_it_lies(archive, tmp_path):
    (tmp_path / "link").symlink_to(archive)
    found = next(archive_files(tmp_path / "link"))
    assert (found.file, found.path) == (str(tmp_path / "link/Z.dcm"), archive / "Z.dcm")


def test_as_many_files_are_counted_as_are_found(archive):
    assert count_files(archive) == 6
    assert count_files(archive / "b.dcm") == 1
    assert count_files(archive / "gone.dcm") == 0


def test_one_file_is_an_archive_of_one(archive):
    (found,) = archive_files(archive / "b.dcm")
    assert (found.file, found.path) == (str(archive / "b.dcm"), archive / "b.dcm")
    assert (found.size, found.mtime_ns) == (5, (archive / "b.dcm").stat().st_mtime_ns)


def test_a_link_that_somebody_named_stands_for_its_target(archive, tmp_path):
    """Size and time of the link itself would hide that the film behind it has changed."""
    (tmp_path / "link.dcm").symlink_to(archive / "b.dcm")
    (found,) = archive_files(tmp_path / "link.dcm")
    assert found.path == archive / "b.dcm"
    assert (found.size, found.mtime_ns) == (5, (archive / "b.dcm").stat().st_mtime_ns)


def test_names_that_are_no_text_are_shown_escaped_and_still_found(tmp_path):
    name = os.fsdecode(b"one\n\xff.dcm")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / name).write_bytes(b"film")
    (found,) = archive_files(tmp_path / "films")
    assert found.file.endswith("one\n\\xff.dcm")
    assert found.path.read_bytes() == b"film"


def test_a_walk_goes_on_after_any_file(archive):
    found = list(archive_files(archive))
    for number, each in enumerate(found):
        assert list(archive_files(archive, after=each.place)) == found[number + 1 :]


def test_a_walk_that_goes_on_does_not_look_into_folders_that_it_has_passed(archive, monkeypatch):
    """Ten million files were looked at again to find out which came last."""
    for year in ("2019", "2020", "2021"):
        (archive / year).mkdir()
        (archive / year / "film.dcm").touch()
    listed, scandir = [], os.scandir
    monkeypatch.setattr("os.scandir", lambda folder: listed.append(str(folder)) or scandir(folder))
    after = os.fsencode(archive / "2021" / "film.dcm")
    names = [each.path.name for each in archive_files(archive, after=after)]
    assert names == ["Z.dcm", "x.dcm", "z.dcm", "a.dcm", "b.dcm", "ä.dcm"]
    assert not [folder for folder in listed if "2019" in folder or "2020" in folder]


def test_a_walk_goes_on_although_the_last_file_is_gone_or_a_folder_now(archive):
    last = archive / "a" / "z.dcm"
    after = os.fsencode(last)
    last.unlink()
    assert next(each.path.name for each in archive_files(archive, after=after)) == "a.dcm"
    last.mkdir()
    (last / "new.dcm").touch()
    assert next(each.path.name for each in archive_files(archive, after=after)) == "new.dcm"
