"""Pages of hostile films in a real browser: nothing runs, nothing leaves."""

import pytest

from tests.browsing import problems_of
from tests.security.conftest import scripts_of

pytestmark = pytest.mark.slow


def test_no_page_of_a_hostile_film_runs_anything_or_asks_anybody(met, browser):
    page = browser.new_page()
    problems = problems_of(page)
    shown = sorted(met.config.site.reports.rglob("*.html"))
    for path in shown:
        page.goto(path.as_uri())
        assert page.evaluate("document.querySelectorAll('svg[onload], img[onerror]').length") == 0
        assert page.evaluate("document.scripts.length") == scripts_of(path)
    page.close()
    assert problems == []
    assert len(shown) > 20
