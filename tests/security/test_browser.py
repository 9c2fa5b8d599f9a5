"""Pages of hostile films in a real browser: nothing runs, nothing leaves."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from tests.security.conftest import scripts_of

pytestmark = pytest.mark.slow


def test_no_page_of_a_hostile_film_runs_anything_or_asks_anybody(met):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Debian's package chromium is not installed")
    problems = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
            ),
        )
        shown = sorted(met.config.site.reports.rglob("*.html"))
        for path in shown:
            page.goto(path.as_uri())
            assert (
                page.evaluate("document.querySelectorAll('svg[onload], img[onerror]').length") == 0
            )
            assert page.evaluate("document.scripts.length") == scripts_of(path)
        browser.close()
    assert problems == []
    assert len(shown) > 20
