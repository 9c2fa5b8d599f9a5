"""Pages in a real browser, opened from file:// as a radiologist opens them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from worker.records import Decision
from worker.report.pages import film_page, worklist_pages
from worker.report.view import FilmView, ModelFacts, RunView, WorklistRow

SIZES = [(390, 844), (1366, 768), (3840, 2160)]  # phone, laptop, 4K


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


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}px")
@pytest.mark.parametrize("name", ["index.html", "films/ab12.html"])
def test_a_page_fits_the_screen_sideways(
    page: Page, reports: Path, name: str, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto((reports / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


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


def test_a_film_is_readable_without_javascript(browser: Browser, reports: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((reports / "films" / "ab12.html").as_uri())
    assert page.get_by_role("heading", name="PNEUMONIA").is_visible()
    assert page.locator("#heat-layer").is_visible()
    context.close()
