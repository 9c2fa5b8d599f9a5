"""A share that is gone is not taken for an empty site."""

from pathlib import Path

import pytest

from worker.errors import ShareGone
from worker.marks import MARK, keep_marks, require_marks, require_this_site
from worker.site import hold_site


@pytest.fixture
def engine(site):
    with hold_site(site) as engine:
        yield engine


def test_a_site_is_marked_when_it_is_first_held(site, engine):
    marks = {(folder / MARK).read_text() for folder in (site.site.work, site.site.reports)}
    assert len(marks) == 1
    require_this_site(site.site, engine)()


def test_holding_it_again_changes_no_mark(site, engine, noon):
    before = (site.site.work / MARK).read_text()
    assert keep_marks(site.site, engine, noon) + "\n" == before
    assert (site.site.work / MARK).read_text() == before


@pytest.mark.parametrize("folder", ["work", "reports"])
@pytest.mark.parametrize("content", [None, "", "another site\n"])
def test_a_folder_without_the_mark_is_another_one_and_the_error_says_what_to_do(
    site, engine, folder, content
):
    mark = getattr(site.site, folder) / MARK
    mark.unlink()
    if content is not None:
        mark.write_text(content)
    with pytest.raises(ShareGone, match="mount it; if the folder was made anew, write this line"):
        require_this_site(site.site, engine)


def test_a_folder_on_another_filesystem_than_work_is_a_share_that_is_gone(site, engine):
    elsewhere = site.site.model_copy(update={"done": Path("/proc")})
    mark = (site.site.work / MARK).read_text().strip()
    with pytest.raises(ShareGone, match=r"site\.done is not on the filesystem"):
        require_marks(elsewhere, {"work": [mark], "reports": [mark]})


def test_a_vanished_folder_is_an_error_of_the_disk(site, engine):
    check = require_this_site(site.site, engine)
    site.site.inbox.rmdir()
    with pytest.raises(FileNotFoundError):
        check()


def test_a_site_that_was_marked_halfway_takes_the_mark_it_finds(site, noon, engine, monkeypatch):
    """A kill between the files and the row once left two marks."""
    found = (site.site.work / MARK).read_text().strip()
    monkeypatch.setattr("worker.marks.site_mark", lambda _engine: None)
    monkeypatch.setattr("worker.marks.keep_site_mark", lambda _engine, mark, _now: mark)
    assert keep_marks(site.site, engine, noon) == found
