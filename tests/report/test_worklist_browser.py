"""The worklist in a real browser: sorted, searched, filtered, and what is new."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from worker.records import Decision
from worker.report.pages import worklist_pages
from worker.report.view import ModelFacts, RunView, WorklistRow

Rows = dict[str, WorklistRow]
Write = Callable[..., Path]


@pytest.fixture
def rows(
    row: Callable[..., WorklistRow], failure: Callable[..., WorklistRow], noon: datetime
) -> Rows:
    """One row of each kind, named by its file; numbers and times as they came."""
    made = [
        row("p-high", Decision.PNEUMONIA, 0.97, run=2),
        row("p-low", Decision.PNEUMONIA, 0.812, run=12, verdict="disagree"),
        row("unsure", Decision.INDETERMINATE, 0.5, run=1),
        row("refused", Decision.REFUSED, 0.3, run=2),
        failure("broken"),
        row("n-12", Decision.NORMAL, 0.2, run=2),
        row("n-9", Decision.NORMAL, 0.1, run=12),
    ]
    hours = (3, 1, 6, 2, 5, 4, 7)
    return {
        each.record.file: replace(each, file_id=number, at=noon + timedelta(hours=hour))
        for number, (each, hour) in enumerate(zip(made, hours, strict=True), start=1)
    }


@pytest.fixture
def write(tmp_path: Path, run: RunView, model: ModelFacts, noon: datetime) -> Write:
    """Write a worklist as the worker does; gives its first page."""

    def put(rows: Rows, **more: object) -> Path:
        made = worklist_pages(list(rows.values()), [run], model, noon, **more)  # type: ignore
        for name, html in made.items():
            (tmp_path / name).write_text(html, encoding="utf-8")
        return tmp_path / "index.html"

    return put


def files(page: Page) -> list[str]:
    """The files in sight, from above."""
    names = page.locator(".films tr[data-group] .name bdi:first-child").all()
    return [name.inner_text() for name in names if name.is_visible()]


URGENT_FIRST = ["p-high", "p-low", "unsure", "refused", "broken", "n-12", "n-9"]


@pytest.mark.parametrize(
    ("head", "once", "twice"),
    [
        (
            "Score",
            ["p-high", "p-low", "unsure", "n-12", "n-9", "refused", "broken"],
            ["n-9", "n-12", "unsure", "p-low", "p-high", "refused", "broken"],
        ),
        (
            "File",
            ["broken", "n-9", "n-12", "p-high", "p-low", "refused", "unsure"],
            ["unsure", "refused", "p-low", "p-high", "n-12", "n-9", "broken"],
        ),
        (
            "Screened",
            ["n-9", "unsure", "broken", "n-12", "p-high", "refused", "p-low"],
            ["p-low", "refused", "p-high", "n-12", "broken", "unsure", "n-9"],
        ),
        (
            "Run",
            ["p-low", "n-9", "p-high", "refused", "n-12", "unsure", "broken"],
            ["unsure", "broken", "p-high", "refused", "n-12", "p-low", "n-9"],
        ),
    ],
)
def test_a_heading_sorts_twice_and_then_restores_the_order(
    page: Page, write: Write, rows: Rows, head: str, once: list[str], twice: list[str]
) -> None:
    page.goto(write(rows).as_uri())
    heading = page.get_by_role("columnheader", name=head)
    button = heading.get_by_role("button")
    button.focus()
    page.keyboard.press("Enter")
    assert files(page) == once
    first = heading.get_attribute("aria-sort")
    page.keyboard.press("Enter")
    assert files(page) == twice
    assert {first, heading.get_attribute("aria-sort")} == {"ascending", "descending"}
    page.keyboard.press("Enter")
    assert files(page) == URGENT_FIRST
    assert heading.get_attribute("aria-sort") is None


def test_sorting_by_score_says_that_those_without_one_stand_last(
    page: Page, write: Write, rows: Rows
) -> None:
    page.goto(write(rows).as_uri())
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#order")).to_contain_text("the 2 without a score stand last")
    page.get_by_role("button", name="Back to: most suspicious first").click()
    assert files(page) == URGENT_FIRST
    assert not page.locator("#order").is_visible()


def test_a_tile_leads_to_its_group_in_a_sorted_list_too(
    page: Page, write: Write, rows: Rows
) -> None:
    page.goto(write(rows).as_uri())
    page.get_by_role("button", name="Score").click()
    page.get_by_role("link", name="NORMAL").click()
    assert files(page) == URGENT_FIRST
    assert page.locator("#negative").is_visible()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("run 12", ["p-low", "broken", "n-9"]),  # not run 1, nor a score of 0.812
        ("run 1", ["unsure", "broken"]),
        ("812", ["broken"]),
        ("n- run 2", ["broken", "n-12"]),
        ("2026-05-03 19", ["broken", "n-9"]),
        ("normal", ["broken", "n-12", "n-9"]),
    ],
)
def test_search_finds_words_and_runs_but_no_scores(
    page: Page, write: Write, rows: Rows, typed: str, found: list[str]
) -> None:
    page.goto(write(rows).as_uri())
    page.keyboard.press("/")
    page.keyboard.type(typed)
    assert files(page) == found
    page.keyboard.press("Escape")
    assert files(page) == URGENT_FIRST


def test_headings_say_how_many_rows_are_shown(page: Page, write: Write, rows: Rows) -> None:
    page.goto(write(rows).as_uri())
    assert "shown" not in page.locator("#positive .group").inner_text()
    page.get_by_role("searchbox").fill("p-low")
    assert "1 of 2 shown" in page.locator("#positive .group").inner_text()
    assert not page.locator("#negative").is_visible()
    page.get_by_role("searchbox").fill("")
    assert "shown" not in page.locator("#positive .group").inner_text()


def test_filters_hold_in_a_sorted_list(page: Page, write: Write, rows: Rows) -> None:
    page.goto(write(rows).as_uri())
    page.get_by_role("button", name="Score").click()
    page.get_by_role("button", name="NORMAL", pressed=True).click()
    assert files(page) == ["p-high", "p-low", "unsure", "refused", "broken"]


def test_only_what_nobody_reviewed(page: Page, write: Write, rows: Rows) -> None:
    page.goto(write(rows).as_uri())
    assert page.get_by_text("Reviewed: disagree").is_visible()
    page.get_by_role("button", name="Not reviewed").click()
    assert files(page) == [name for name in URGENT_FIRST if name != "p-low"]


def test_there_is_no_such_filter_where_nobody_reviews(page: Page, write: Write, rows: Rows) -> None:
    unread = {name: replace(each, verdict=None) for name, each in rows.items()}
    page.goto(write(unread).as_uri())
    assert page.get_by_role("button", name="Not reviewed").count() == 0


# New since the last look


@pytest.fixture
def later(rows: Rows, row: Callable[..., WorklistRow], noon: datetime) -> Rows:
    """The same, and two more films: one by the clock, one whose clock jumped back."""
    newer = row("newer", Decision.NORMAL, 0.05, file_id=8, at=noon + timedelta(days=1))
    jumped = row("jumped", Decision.PNEUMONIA, 0.99, file_id=9, at=noon - timedelta(days=900))
    return rows | {"newer": newer, "jumped": jumped}


def marked(page: Page) -> list[str]:
    """Files whose rows say that they are new."""
    new = page.locator(".films tr[data-group]", has=page.locator(".badge"))
    return [each.inner_text() for each in new.locator(".name bdi:first-child").all()]


def test_a_first_visit_marks_nothing(page: Page, write: Write, rows: Rows) -> None:
    page.goto(write(rows).as_uri())
    assert marked(page) == []
    assert not page.locator("#news").is_visible()
    assert not page.locator("#only-new").is_visible()


def test_what_came_since_is_marked_until_the_reader_has_seen_it(
    page: Page, write: Write, rows: Rows, later: Rows
) -> None:
    page.goto(write(rows).as_uri())
    write(later)
    for _ in range(2):  # a reload loses nothing
        page.reload()
        assert marked(page) == ["jumped", "newer"]
        expect(page.locator("#news")).to_contain_text("2 new since 2026-05-03 12:00:00 UTC")
    page.get_by_role("button", name="New only").click()
    assert files(page) == ["jumped", "broken", "newer"]
    page.get_by_role("button", name="Mark all as seen").click()
    assert marked(page) == []
    assert "jumped" in files(page)
    assert len(files(page)) == 9
    page.reload()
    assert marked(page) == []


def test_other_pages_with_news_say_so(page: Page, write: Write, row, noon) -> None:  # type: ignore
    many = {f"{n}": row(f"{n}", Decision.NORMAL, 0.4, file_id=n, at=noon) for n in range(1, 502)}
    page.goto(write(many).as_uri())
    many["last"] = row("last", Decision.NORMAL, 0.01, file_id=600, at=noon)
    write(many)
    page.reload()
    assert marked(page) == []
    expect(page.locator("#news")).to_contain_text("Nothing new on this page")
    assert "new" in page.locator(".pager a").first.inner_text()


def test_a_page_that_may_not_remember_marks_nothing(
    page: Page, write: Write, rows: Rows, later: Rows
) -> None:
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
    )
    page.goto(write(rows).as_uri())
    write(later)
    page.reload()
    assert marked(page) == []
    page.get_by_role("searchbox").fill("newer")
    assert files(page) == ["broken", "newer"]


def test_a_mark_that_is_none_of_ours_is_ignored(page: Page, write: Write, rows: Rows) -> None:
    uri = write(rows).as_uri()
    page.goto(uri)
    page.evaluate("for (const key of Object.keys(localStorage)) localStorage[key] = '{\"at\": []}'")
    page.reload()
    assert marked(page) == []
    page.get_by_role("button", name="Score").click()
    assert files(page)[0] == "p-high"


# For everybody


SPREAD = {"NORMAL": (2, *[0] * 19), "PNEUMONIA": (*[0] * 16, 1, 0, 0, 1), "REFUSED": (1,) * 20}


SEEN = """
    const seen = { at: Date.parse('2026-05-03T19:00Z'), number: 7, said: 'yesterday' };
    const folder = location.pathname.replace(/[^/]*$/, '');
    localStorage.setItem(`screen-seen:${folder}`, JSON.stringify(seen));
"""


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_in_a_sorted_list_with_news(
    browser: Browser, write: Write, later: Rows, theme: str
) -> None:
    context = browser.new_context()
    context.add_init_script(f"localStorage.setItem('screen-theme', '{theme}'); {SEEN}")
    page = context.new_page()
    page.goto(write(later, spread=SPREAD).as_uri())
    page.get_by_role("button", name="Screened").click()
    assert page.locator(".badge").count() == 2
    assert Axe().run(page).response["violations"] == []
    context.close()


def test_without_javascript_everything_can_be_read(
    browser: Browser, write: Write, rows: Rows
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write(rows, spread=SPREAD).as_uri())
    assert files(page) == URGENT_FIRST
    assert page.get_by_text("Copy it again, whole.").is_visible()
    assert page.get_by_role("img", name="Scores of all films that were answered").is_visible()
    assert not page.get_by_role("searchbox").is_visible()
    assert not page.get_by_role("button", name="Mark all as seen").is_visible()
    context.close()
