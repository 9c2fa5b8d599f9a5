"""Every page, written and served, at every size, dark and light: what must hold of them all."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browsing import problems_of
from worker.report.worklist import PAGE_ROWS

SIZES = {"phone": (390, 844), "laptop": (1280, 800), "4K": (3840, 2160)}
AXE_AT = ("phone", "laptop")
LEAST_PX = {"phone": 11, "laptop": 11, "4K": 16}  # of a letter's em
WRITTEN = ("index.html", "runs/1.html", "runs/2.html")
SERVED = {
    "room": "/?received=2",
    "results": "/results",
    "no result": "/results?q=nothing",
    "api": "/api",
    "login": "/login",
    "message": "/no-such-page",
}
LONG = ("index.html", "worklist-4.html", "results/index.html", "results/000000.html", "runs/1.html")

SMALLEST = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let least = [Infinity, ''];
  while (walker.nextNode()) {
    const { parentElement: element, textContent } = walker.currentNode;
    if (!textContent.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    // Figures of an evaluation shrink with the page: they are pictures.
    if (element.closest('script, style, title, desc, .hidden-text, .figures svg')) continue;
    const drawn = element.ownerSVGElement ? element.getScreenCTM() : { a: 1, b: 0 };
    const size = parseFloat(getComputedStyle(element).fontSize) * Math.hypot(drawn.a, drawn.b);
    if (size < least[0]) least = [size, textContent.trim()];
  }
  return least;
}"""


@pytest.fixture(scope="module")
def shown(browser):
    """Open a page, look at it at each size, dark and light; what went wrong."""
    context = browser.new_context()

    def look(address, *, axe_at=AXE_AT, known=()):
        page = context.new_page()
        own = "file:" if address.startswith("file:") else "/".join(address.split("/")[:3])
        problems = problems_of(page, (own, "data:"))
        page.goto(address)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        for size, theme in ((size, theme) for size in SIZES for theme in ("dark", "light")):
            width, height = SIZES[size]
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
            problems += [f"{size}, {theme}: {each}" for each in faults(page, size, width)]
            if size in axe_at:
                problems += [f"{size}, {theme}: {each}" for each in barriers(page)]
        page.close()
        return [each for each in problems if not any(word in each for word in known)]

    yield look
    context.close()


def faults(page, size, width):
    """What no page may do at any size."""
    if page.evaluate("document.documentElement.scrollWidth") > width:
        yield "it scrolls sideways"
    if not page.locator(".caveat").first.is_visible():
        yield "the caveat is not in sight"
    least, text = page.evaluate(SMALLEST)
    if least < LEAST_PX[size]:
        yield f"{least} px: {text}"
    if page.locator("img[onerror], svg[onload], [style]:not(svg *, .layer)").count():
        yield "there are elements that no template made"


def barriers(page):
    """What axe finds for readers who do not see, or do not point."""
    for found in Axe().run(page).response["violations"]:
        yield f"{found['id']} ({found['impact']}): {found['nodes'][0]['html'][:200]}"


@pytest.mark.parametrize("served", [False, True], ids=["file", "served"])
class TestReports:
    """Pages that the worker writes, opened from the disk and through the server."""

    @pytest.mark.parametrize("page", WRITTEN)
    def test_written_pages(self, shown, small, page, served):
        assert shown(small.at(page, served=served)) == []

    @pytest.mark.parametrize("number", range(6))
    def test_films(self, shown, small, number, served):
        axe_at = ("laptop",) if served else AXE_AT  # the page is the same but for its review
        assert shown(small.at(small.films()[number], served=served), axe_at=axe_at) == []

    @pytest.mark.parametrize("page", LONG)
    def test_ten_thousand_results(self, shown, many, page, served):
        assert shown(many.at(page, served=served), axe_at=()) == []


@pytest.mark.parametrize("page", SERVED.values(), ids=SERVED)
def test_served_pages(shown, small, page):
    assert shown(small.url + page, known=["status of 404"] if page == "/no-such-page" else []) == []


def test_ten_thousand_results_asked_for(shown, many):
    assert shown(f"{many.url}/results") == []


def test_one_film(shown, single):
    assert shown(single.at("index.html", served=False)) == []


def test_an_evaluation(shown, evaluation):
    assert shown(evaluation.as_uri()) == []


@pytest.mark.parametrize("served", [False, True], ids=["file", "served"])
def test_a_long_worklist_needs_no_javascript(browser, many, served):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(many.at("index.html", served=served))
    assert page.locator("tr[data-group]:visible").count() == PAGE_ROWS
    assert page.get_by_role("navigation", name="Pages", exact=True).is_visible()
    context.close()
