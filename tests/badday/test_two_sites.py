"""Two sites must not take films out of one inbox: each would report half of them."""

import pytest

from tests.badday.ward import new_site
from worker.config import load_config
from worker.errors import SiteBusy
from worker.site import hold_site


@pytest.fixture
def first(tmp_path):
    return new_site(tmp_path / "first")


@pytest.fixture
def second(tmp_path):
    """Make a site with an inbox somewhere else."""

    def make(inbox):
        inbox.mkdir(exist_ok=True)
        config = new_site(tmp_path / "second", f"[site]\ninbox = '{inbox}'\n")
        return load_config(config.root / "config.toml")

    return make


@pytest.mark.parametrize("below", [".", "room-2", ".."], ids=["same", "inside", "around"])
def test_a_second_site_on_one_inbox_is_refused(first, second, below):
    """Both claimed from it, and the films of one patient were spread over two worklists."""
    other = second(first.site.inbox / below)
    with (
        hold_site(first),
        pytest.raises(SiteBusy, match="give each site an inbox of its own"),
        hold_site(other),
    ):
        pass


def test_it_may_have_it_when_the_first_has_ended(first, second):
    other = second(first.site.inbox)
    with hold_site(first):
        pass
    with hold_site(other):
        pass


def test_inboxes_beside_each_other_are_two_sites(first, second, tmp_path):
    with hold_site(first), hold_site(second(tmp_path / "inbox")):
        pass


def test_an_inbox_named_through_a_link_is_the_same_one(first, second, tmp_path):
    (tmp_path / "link").symlink_to(first.site.inbox)
    other = second(tmp_path / "link")
    with hold_site(first), pytest.raises(SiteBusy), hold_site(other):
        pass
