"""Pages in a real browser, opened from file:// as a radiologist opens them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page

from worker.records import Decision
from worker.report.pages import film_page, worklist_pages
from worker.report.view import FilmView, ModelFacts, RunView, WorklistRow


@pytest.fixture
def reports(
    tmp_path: Path,
    film: Callable[..., FilmView],
    row: Callable[..., WorklistRow],
    failure: Callable[..., WorklistRow],
    run: RunView,
    model: ModelFacts,
    noon: datetime,
) -> Path:
    """A folder as the worker writes it: a worklist of four rows, and one film."""
    rows = [
        row("ab12", Decision.PNEUMONIA, 0.97),
        row("<img src=x onerror=alert(1)>", Decision.NORMAL, 0.02),
        row("cd34", Decision.INDETERMINATE, 0.5),
        failure("broken.jpeg"),
    ]
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "ab12.html").write_text(film_page(film()), encoding="utf-8")
    for name, html in worklist_pages(rows, [run], model, noon).items():
        (tmp_path / name).write_text(html, encoding="utf-8")
    return tmp_path


def test_the_worklist_leads_to_the_film_and_back(page: Page, reports: Path) -> None:
    page.goto((reports / "index.html").as_uri())
    page.get_by_role("link", name="ab12").first.click()
    page.wait_for_url("**/films/ab12.html")
    page.get_by_role("link", name="Worklist").click()
    page.wait_for_url("**/index.html")


def test_the_key_h_hides_and_shows_the_heat_map(page: Page, reports: Path) -> None:
    page.goto((reports / "films" / "ab12.html").as_uri())
    heat = page.locator("#heat-layer")
    assert heat.is_visible()
    page.keyboard.press("h")
    assert not heat.is_visible()
    page.keyboard.press("h")
    assert heat.is_visible()


def test_searching_leaves_the_failed_files_in_sight(page: Page, reports: Path) -> None:
    page.goto((reports / "index.html").as_uri())
    page.get_by_role("searchbox").fill("cd34")
    assert page.get_by_role("link", name="cd34").first.is_visible()
    assert not page.get_by_role("link", name="ab12").first.is_visible()
    assert page.get_by_text("broken.jpeg").first.is_visible()


def test_pages_are_dark_until_the_reader_chooses(page: Page, reports: Path) -> None:
    page.goto((reports / "index.html").as_uri())
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    red, green, blue = (int(part) for part in background[4:-1].split(",")[:3])
    assert max(red, green, blue) < 40
