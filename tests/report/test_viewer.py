"""The film's viewer, in a real browser: window, polarity, zoom and layout, by hand and by key."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from models.cards import read_card
from models.registry import find_model
from worker.records import Decision, Tags
from worker.report.pages import film_page
from worker.report.site import model_facts
from worker.report.view import FilmView

USUAL = ["W 256 L 128", "1.0×"]
GREY = 90  # of the film
A4_PX = (711, 1040)  # at 96 to the inch, within margins of 11 mm


@pytest.fixture
def write(tmp_path: Path, film: Callable[..., FilmView]) -> Callable[..., str]:
    """Write the page of a film, with these values changed; its address."""
    _, picture = cv2.imencode(".jpg", np.full((600, 800), GREY, np.uint8))

    def page_of(**changes: object) -> str:
        view = film(picture=picture.tobytes(), rows=600, columns=800, **changes)
        (tmp_path / "film.html").write_text(film_page(view), encoding="utf-8")
        return (tmp_path / "film.html").as_uri()

    return page_of


@pytest.fixture
def viewer(page: Page, write: Callable[..., str]) -> Page:
    """A page that shows a flat grey film with one hot cell."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(write())
    return page


def state(page: Page) -> list[str]:
    """What the viewer says of itself, as it is seen."""
    return [each.inner_text() for each in page.locator("#state > *:visible").all()]


def boxes(page: Page) -> list[list[float]]:
    """Which part of the film each pane shows: x, y, width, height in its pixels."""
    found = page.locator(".pane svg").evaluate_all("all => all.map(e => e.getAttribute('viewBox'))")
    return [[float(number) for number in box.split()] for box in found]


def pixels(of: Locator) -> NDArray[np.uint8]:
    """What is seen of an element, RGB."""
    return np.asarray(Image.open(io.BytesIO(of.screenshot())).convert("RGB"))


def grey_in(pane: Locator) -> int:
    """The grey of a pane beside the hot cell."""
    shown = pixels(pane)
    return int(shown[shown.shape[0] * 7 // 8, shown.shape[1] // 2].mean().round())


def drag(page: Page, right: int, down: int, button: str = "left") -> None:
    box = page.locator("#stage").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down(button=button)  # type: ignore[arg-type]
    page.mouse.move(x + right, y + down, steps=4)
    page.mouse.up(button=button)  # type: ignore[arg-type]


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["i"], ["Inverted", *USUAL]),
        (["i", "i"], USUAL),
        (["Shift+ArrowLeft"], ["W 248 L 128", "1.0×"]),
        (["Shift+ArrowRight"], ["W 264 L 128", "1.0×"]),
        (["Shift+ArrowUp"], ["W 256 L 120", "1.0×"]),
        (["Shift+ArrowDown"], ["W 256 L 136", "1.0×"]),
        (["+"], ["W 256 L 128", "1.3×"]),
        (["+", "+", "-"], ["W 256 L 128", "1.3×"]),
        (["-"], USUAL),
        (["ArrowLeft", "ArrowDown"], USUAL),
    ],
    ids=" ".join,
)
def test_keys_change_what_is_shown_and_the_page_says_so(
    viewer: Page, keys: list[str], says: list[str]
) -> None:
    press(viewer, *keys)
    assert state(viewer) == says


def test_what_is_not_as_stored_is_marked(viewer: Page) -> None:
    marked = viewer.locator("#state b:visible, #state span.is-changed")
    assert marked.count() == 0
    press(viewer, "i", "Shift+ArrowUp", "+")
    assert marked.all_inner_texts() == ["Inverted", "W 256 L 120", "1.3×"]


def test_dragging_sets_the_window_and_with_the_right_button_pans(viewer: Page) -> None:
    drag(viewer, -50, 20)
    assert state(viewer)[0] == "W 206 L 148"
    press(viewer, "+", "+")
    before = boxes(viewer)
    drag(viewer, 30, 0, "right")
    assert boxes(viewer)[0][0] < before[0][0]
    assert state(viewer)[0] == "W 206 L 148"


def test_the_tool_pan_changes_the_buttons_round(viewer: Page) -> None:
    press(viewer, "p", "+", "+")
    before = boxes(viewer)
    drag(viewer, -30, -30)
    assert boxes(viewer)[0][0] > before[0][0]
    assert boxes(viewer)[0][1] > before[0][1]
    assert state(viewer)[0] == USUAL[0]
    drag(viewer, 10, 0, "right")
    assert state(viewer)[0] == "W 266 L 128"


def test_the_wheel_zooms_at_the_pointer(viewer: Page) -> None:
    pane = viewer.locator(".pane:visible svg").bounding_box()
    assert pane
    x, y = pane["x"] + pane["width"] / 4, pane["y"] + pane["height"] / 3
    under = "([x, y]) => { const p = viewer.place({clientX: x, clientY: y}); return [p.x, p.y]; }"
    before = viewer.evaluate(under, [x, y])
    viewer.mouse.move(x, y)
    viewer.mouse.wheel(0, -300)
    viewer.wait_for_function("viewer.now.zoom > 1.5")
    assert viewer.evaluate(under, [x, y]) == pytest.approx(before, abs=0.5)


def test_a_part_of_the_film_is_never_lost_from_sight(viewer: Page) -> None:
    press(viewer, "+", *["ArrowRight"] * 30, *["ArrowDown"] * 30)
    [x, y, width, height] = boxes(viewer)[0]
    assert (x + width, y + height) == (pytest.approx(800), pytest.approx(600))


@pytest.mark.parametrize("how", ["r", "0", "button", "double click"])
def test_reset_restores_window_polarity_and_zoom(viewer: Page, how: str) -> None:
    whole = boxes(viewer)
    press(viewer, "i", "+", "+", "ArrowRight", "Shift+ArrowLeft", "Shift+ArrowUp")
    assert state(viewer) != USUAL
    if how == "button":
        viewer.locator("#reset").click()
    elif how == "double click":
        viewer.locator("#stage").dblclick()
    else:
        press(viewer, how)
    assert state(viewer) == USUAL
    assert boxes(viewer) == whole
    assert viewer.locator(".film-layer[filter]").count() == 0


def test_sliders_and_buttons_do_what_keys_do(viewer: Page) -> None:
    viewer.locator("#centre").fill("100")
    viewer.locator("#width").fill("80")
    viewer.locator("#invert").click()
    viewer.locator("#zoom-in").click()
    assert state(viewer) == ["Inverted", "W 80 L 100", "1.3×"]
    assert viewer.locator("#invert").get_attribute("aria-pressed") == "true"
    press(viewer, "r")
    assert viewer.locator("#width").input_value() == "256"


def test_panes_side_by_side_share_window_polarity_and_zoom(viewer: Page) -> None:
    press(viewer, "s", "i", "+", "+", "ArrowLeft")
    panes = viewer.locator(".pane:visible")
    assert panes.count() == 2
    assert boxes(viewer)[0] == boxes(viewer)[1] != [0, 0, 800, 600]
    assert [grey_in(each) for each in panes.all()] == [pytest.approx(255 - GREY, abs=3)] * 2
    press(viewer, "s")
    assert panes.count() == 1


def test_the_next_film_has_the_layout_but_neither_window_nor_polarity(viewer: Page) -> None:
    press(viewer, "s", "i", "+", "Shift+ArrowUp")
    viewer.reload()
    assert viewer.locator(".pane:visible").count() == 2
    assert state(viewer) == USUAL
    press(viewer, "s")
    viewer.reload()
    assert viewer.locator(".pane:visible").count() == 1


def test_windows_are_those_of_dicom(viewer: Page) -> None:
    pane = viewer.locator(".pane:visible")
    assert grey_in(pane) == pytest.approx(GREY, abs=2)
    viewer.locator("#centre").fill("100")
    viewer.locator("#width").fill("51")
    linear = ((GREY - 99.5) / 50 + 0.5) * 255  # PS3.3 C.11.2.1.2.1
    assert grey_in(pane) == pytest.approx(linear, abs=10)  # 5 for each grey level of the JPEG
    press(viewer, "i")
    assert grey_in(pane) == pytest.approx(255 - linear, abs=10)


def test_neither_heat_map_nor_legend_is_recoloured(viewer: Page) -> None:
    legend = viewer.locator(".legend svg").first
    before = pixels(legend)
    press(viewer, "i", *["Shift+ArrowLeft"] * 10)
    assert np.array_equal(pixels(legend), before)
    assert viewer.locator(".film-layer #heat-layer, #heat-layer[filter]").count() == 0
    assert viewer.locator(".film-layer[filter]").count() == 2


def test_shortcuts_rest_while_the_reader_types_or_commands_the_browser(viewer: Page) -> None:
    press(viewer, "Control+i", "Alt+h", "Meta+s")
    viewer.evaluate("document.body.append(document.createElement('textarea'))")
    viewer.locator("textarea").focus()
    press(viewer, "i", "h", "s", "+", "?", "Shift+ArrowLeft")
    assert state(viewer) == USUAL
    assert viewer.locator("#heat-layer").is_visible()
    assert viewer.locator(".pane:visible").count() == 1
    assert viewer.locator("textarea").input_value() == "ihs+?"


def test_shortcuts_work_after_a_slider_was_moved(viewer: Page) -> None:
    viewer.locator("#opacity").click()
    press(viewer, "h")
    assert not viewer.locator("#heat-layer").is_visible()


def test_the_list_of_keys_opens_with_its_key(viewer: Page) -> None:
    words = viewer.get_by_text("brighter, darker")
    assert not words.is_visible()
    press(viewer, "?")
    assert words.is_visible()


def test_the_page_says_on_what_the_window_acts(viewer: Page) -> None:
    assert viewer.get_by_text("act on the stored 8-bit picture, not on the original").is_visible()


def test_a_film_without_heat_map_has_its_viewer_too(page: Page, write: Callable[..., str]) -> None:
    page.goto(write(evidence=None))
    press(page, "h", "s", "i", "+")
    assert state(page) == ["Inverted", "W 256 L 128", "1.3×"]


def test_two_fingers_zoom_and_one_pans(browser: Browser, write: Callable[..., str]) -> None:
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(write())
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    device = context.new_cdp_session(page)

    def touch(kind: str, *at: float) -> None:
        points = [{"x": each, "y": y, "id": number} for number, each in enumerate(at)]
        device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", x - 20, x + 20)
    touch("touchMove", x - 60, x + 60)
    touch("touchEnd")
    page.wait_for_function("viewer.now.zoom > 2")
    before = boxes(page)[0]
    touch("touchStart", x)
    touch("touchMove", x - 40)
    touch("touchEnd")
    page.wait_for_function("before => viewer.now.x > before", arg=before[0])
    assert state(page)[0] == USUAL[0]
    context.close()


def test_without_javascript_there_are_film_heat_map_legend_and_answer(
    browser: Browser, write: Callable[..., str]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(write())
    for shown in ("#picture", "#heat-layer", "#legend-ramp", ".scale"):
        assert page.locator(shown).is_visible()
    assert page.get_by_role("heading", name="PNEUMONIA").is_visible()
    assert not page.locator("#invert").is_visible()
    page.locator("label[for=beside]").click()
    assert page.locator(".pane:visible").count() == 2
    page.locator("label[for=heat]").click()
    assert not page.locator("#heat-layer").is_visible()
    context.close()


@pytest.fixture
def full(film: Callable[..., FilmView]) -> dict[str, object]:
    """What a page with much on it shows: a real card, all tags, notes, a refusal."""
    model = model_facts(read_card(find_model("kermany-ensemble")))
    uid = "1.2.392.200046.100.2.1.97028794843.150131102105.1.1.1"
    tags = Tags("DX", "PA", "CHEST", 34.0, "MONOCHROME1", "1.2.840.10008.1.2.4.90", "Canon Inc.")
    record = replace(
        film().record,
        decision=Decision.REFUSED,
        reason="outside-validated-population",
        message="The patient is 34 years old; the model was validated on "
        f"{model.population.description}, 1 to 5 years old.",
        guard_score=0.98,
        guard_threshold=0.5,
        file=f"/archive/radiology/2019/ward-3/{uid}.dcm",
    )
    tags = replace(tags, study_instance_uid=uid, series_instance_uid=uid, patient_name="Doe, Jane")
    return {
        "model": model,
        "record": record,
        "tags": tags,
        "notes": ("no DICOM preamble", "several windows: the first was taken"),
    }


@pytest.mark.parametrize("sort", ["answered", "refused"])
def test_a_film_prints_on_one_sheet(
    page: Page, write: Callable[..., str], full: dict[str, object], sort: str
) -> None:
    page.goto(write(**(full if sort == "refused" else {"model": full["model"]})))
    pdf = page.pdf(format="A4")
    assert pdf.count(b"/Type /Page") - pdf.count(b"/Type /Pages") == 1
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4_PX[0], "height": A4_PX[1]})
    assert page.locator(".pane:visible").count() == 2
    for shown in ("#heat-layer", "#legend-ramp", ".decision", "#model", ".caveat"):
        assert page.locator(shown).is_visible()
    assert page.locator(".number").is_visible() == (sort == "answered")
    assert not page.locator("#invert").is_visible()


def test_a_sheet_says_that_its_film_is_not_as_stored(viewer: Page) -> None:
    press(viewer, "h", "i", "Shift+ArrowUp")
    viewer.emulate_media(media="print")
    assert state(viewer)[:2] == ["Inverted", "W 256 L 120"]
    assert viewer.locator("#heat-layer").is_visible()
    press(viewer, "r")
    assert state(viewer) == []


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("sort", ["answered", "refused"])
def test_axe_finds_nothing_in_a_film_that_was_changed(
    page: Page,
    write: Callable[..., str],
    full: dict[str, object],
    theme: str,
    sort: str,
) -> None:
    page.goto(write(**(full if sort == "refused" else {})))
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    press(page, "s", "i", "?")
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
