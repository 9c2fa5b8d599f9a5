"""Without a mouse, and without JavaScript: every page can be used and read."""

import pytest

from tests.browsing import problems_of

# What can be reached, in the order of the page; of radio buttons the one that is chosen, or any.
REACHABLE = """() => {
  const all = [...document.querySelectorAll(
    'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')];
  const groups = new Set();
  return all.filter((each) => {
    if (!each.checkVisibility({ visibilityProperty: true }) || each.disabled) return false;
    if (each.type !== 'radio') return true;
    const radios = all.filter((other) => other.type === 'radio' && other.name === each.name);
    if (radios.some((other) => other.checked)) return each.checked;
    return !groups.has(each.name) && groups.add(each.name);
  });
}"""
FOCUSED = f"""() => {{
  const element = document.activeElement;
  const shown = [element, ...(element.labels || [])];
  const outlined = ({{ outlineStyle, outlineWidth }}) =>
    outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1;
  const inSight = (each) => {{
    const {{ left, top, right, bottom }} = each.getBoundingClientRect();
    const there = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return there && (each.contains(there) || there.contains(each));
  }};
  return {{
    number: ({REACHABLE})().indexOf(element),
    // The browser itself marks the parts of a date.
    marked: element.type === 'date' || shown.some((each) => outlined(getComputedStyle(each))),
    inSight: shown.some(inSight),
    html: element.outerHTML.slice(0, 120),
  }};
}}"""
TO_THE_TOP = "() => { document.body.tabIndex = -1; document.body.focus(); }"
PLACES = ("index.html", "runs/1.html", "film", "/", "/results", "/api", "/login", "served film")


def address(small, place):
    if place.startswith("/"):
        return small.url + place
    if place.endswith("film"):
        return small.at(small.films()[0], served=place != "film")
    return small.at(place, served=False)


@pytest.mark.parametrize(
    ("place", "width"), [*((place, 390) for place in PLACES), ("index.html", 1280), ("film", 1280)]
)
def test_the_tab_key_reaches_everything_in_order_and_shows_where_it_is(
    browser, small, place, width
):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(address(small, place))
    page.evaluate(TO_THE_TOP)
    count = page.evaluate(f"({REACHABLE})().length")
    for key, order in (("Tab", range(count)), ("Shift+Tab", range(count - 2, -1, -1))):
        before = None
        for number in order:
            found = press(page, key)
            while found["number"] == before:  # another part of a date
                found = press(page, key)
            before = number
            assert found == found | {"number": number, "marked": True, "inSight": True}
    page.close()


def press(page, key):
    """Press a key; where the focus is then."""
    page.keyboard.press(key)
    return page.evaluate(FOCUSED)


def test_the_first_key_leads_past_the_ways(browser, small):
    page = browser.new_page()
    page.goto(small.url)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.close()


@pytest.fixture(scope="module")
def plain(browser):
    """Pages in a browser without JavaScript."""
    context = browser.new_context(java_script_enabled=False)
    yield context
    context.close()


@pytest.mark.parametrize("place", PLACES)
def test_without_javascript_every_page_says_what_it_is(plain, small, place):
    page = plain.new_page()
    problems = problems_of(page, ("file:", "data:", small.url))
    page.goto(address(small, place))
    assert page.get_by_role("heading").first.is_visible()
    assert page.locator(".caveat").is_visible()
    assert page.locator(".needs-js:visible").count() == 0
    assert problems == []
    page.close()


def test_without_javascript_a_film_can_be_reviewed(plain, small):
    page = plain.new_page()
    page.goto(small.at(small.films()[0], served=True))
    page.get_by_label("Unclear").check()
    page.get_by_role("textbox", name="Note").fill("by hand")
    page.get_by_role("button", name="Keep review").press("Enter")
    page.wait_for_load_state()
    assert page.locator(".reviewed").inner_text().endswith("by hand")
    page.close()
