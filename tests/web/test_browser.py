"""The served pages in a real browser: films dropped on them, by keyboard, without scripts."""

import contextlib
import re
import socket
import threading

import pytest
import uvicorn
from playwright.sync_api import expect

from tests.conftest import NOT_ALLOWED
from tests.web.conftest import TOKEN
from tests.web.server import free_port, until
from worker.web.app import reading_room

pytestmark = pytest.mark.slow

LAPTOP = {"width": 1280, "height": 800}
PAGES = ("/", "/results", "/api", "/login", "/reports/films/nothing.html")
DROP = """async (films) => {
  const data = new DataTransfer();
  for (const [name, text] of films) data.items.add(new File([text], name));
  for (const kind of ['dragenter', 'dragover', 'drop'])
    document.getElementById('drop').dispatchEvent(
      new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}));
}"""


def outward_address():
    """This machine's address in a network, `None` if it is in none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("198.51.100.1", 9))  # RFC 5737
        return probe.getsockname()[0]
    return None


class Served:
    """A site that a server of this process shows."""

    def __init__(self, desk, token=None, host="127.0.0.1"):
        self.desk, port = desk, free_port()
        app = reading_room(desk.config, token)
        settings = uvicorn.Config(
            app, host=host, port=port, log_config=None, timeout_graceful_shutdown=5
        )
        self.server, self.url = uvicorn.Server(settings), f"http://{host}:{port}"
        app.state.is_over = lambda: self.server.should_exit
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started, "the server listens")

    def end(self):
        self.server.should_exit = True
        self.thread.join(30)


@pytest.fixture(scope="module")
def served(new_desk):
    desk = new_desk()
    desk.drop(one=b"one", two=b"two", three=b"three", **{"a-rather-long-name-" * 8: b"four"})
    desk.work_all()
    one = Served(desk)
    yield one
    one.end()


@pytest.fixture
def view(browser, served):
    """Open a page; at the end nothing was complained of, and nobody else was asked."""
    contexts, problems = [], []

    def open_page(path="/", *, troubled=False, **options):
        context = browser.new_context(**{"viewport": LAPTOP, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        if not troubled:  # a browser remarks each answer that a test makes fail
            page.on(
                "console",
                lambda said: (
                    problems.append(said.text) if said.type in ("error", "warning") else None
                ),
            )
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith((served.url, "data:")) else problems.append(asked.url)
            ),
        )
        page.goto(served.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    allowed = "the server responded with a status of 404"
    assert [each for each in problems if allowed not in each] == []


def test_dropped_films_are_sent_and_their_decisions_appear(view, served):
    page = view()
    page.evaluate(DROP, [["dropped-1.jpg", "d1"], ["dropped-2.jpg", "d2"], ["<b>x.jpg", "d3"]])
    expect(page.locator("#sent-list li")).to_have_count(3)
    expect(page.locator("#sent-list .is-received")).to_have_count(3)
    served.desk.work_all()
    expect(page.locator("#sent-list .is-ended")).to_have_count(3)
    expect(page.locator("#sent-list")).to_contain_text("<b>x.jpg")
    expect(page.locator("#sent-sum")).to_have_text("3 of 3 done")
    expect(page.locator("#live")).to_contain_text("dropped-1.jpg")
    page.locator("#sent-list a").first.click()
    expect(page).to_have_url(re.compile("/reports/films/"))


def test_a_film_by_keyboard_alone(view, served, tmp_path):
    film = tmp_path / "typed.jpg"
    film.write_bytes(b"typed")
    page = view()
    page.on("filechooser", lambda chooser: chooser.set_files(film))  # long before it opens
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "films":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#sent-list .is-received")).to_have_count(1)
    assert "typed.jpg" in served.desk.names("inbox")


def test_without_scripts_films_are_sent_by_a_form(view, served, tmp_path):
    film = tmp_path / "plain.jpg"
    film.write_bytes(b"plain")
    page = view(java_script_enabled=False)
    page.set_input_files("#films", [film])
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_text("1 film received")).to_be_visible()
    assert (served.desk.site.inbox / "plain.jpg").read_bytes() == b"plain"
    for path in PAGES:
        page.goto(served.url + path)
        expect(page.locator("main")).not_to_be_empty()


def test_the_page_says_when_the_server_is_gone(browser, new_desk):
    gone = Served(new_desk())
    page = browser.new_page()
    page.goto(gone.url)
    expect(page.locator("#live")).to_contain_text("No worker runs")
    gone.end()
    expect(page.locator("#link")).to_contain_text("does not answer", timeout=30_000)
    page.close()


BROKEN = """async () => {
  const file = (name) => ({isFile: true, name, file: (done) => done(new File([name], name))});
  const torn = {isFile: true, name: 'torn.jpg', file: (done, wrong) => wrong(new Error())};
  const folder = (name, entries) => ({name, createReader: () => ({
    readEntries: (done, wrong) => entries ? done(entries.splice(0)) : wrong(new Error())})});
  const entries = [folder('f', [file('in.jpg'), torn, file('after.jpg')]), folder('shut'),
    file('z.jpg')];
  const event = new Event('drop', {cancelable: true});
  event.dataTransfer = {types: ['Files'],
    items: entries.map((entry) => ({kind: 'file', webkitGetAsEntry: () => entry}))};
  window.dispatchEvent(event);
}"""


def test_what_cannot_be_read_is_said_and_holds_nothing_up(view):
    """One entry that could not be read dropped all that came after it, and said nothing."""
    page = view()
    page.evaluate(BROKEN)
    expect(page.locator("#sent-list .is-received")).to_have_count(3)
    refused = page.locator("#sent-list .is-refused")
    expect(refused.locator("bdi")).to_have_text(["shut", "torn.jpg"])
    expect(refused.get_by_text("could not be read")).to_have_count(2)
    expect(refused.get_by_role("button")).to_have_count(0)
    expect(page.locator("#sent-sum")).to_have_text("0 of 5 done, 2 not sent")


def test_more_films_than_one_question_holds_are_all_answered(view, served):
    """Only the first fifty were asked for, and only when something else happened."""
    page = view(troubled=True)
    page.route("**/api/events", lambda route: route.abort())
    page.reload()
    page.evaluate(DROP, [[f"many-{n}.jpg", f"many {n}"] for n in range(53)])
    expect(page.locator("#sent-list .is-received")).to_have_count(53, timeout=60_000)
    page.route("**/api/films?sha256*", lambda route: route.abort(), times=1)
    while served.desk.names("inbox"):
        served.desk.work()
    expect(page.locator("#sent-list .is-ended")).to_have_count(53, timeout=60_000)


def test_films_that_wait_to_be_sent_keep_the_page_open(view):
    """After an answer 429 they lived in timers alone: the page could be closed over them."""
    page = view(troubled=True)
    unload = """() => {
      const event = new Event('beforeunload', {cancelable: true});
      window.dispatchEvent(event);
      return event.defaultPrevented;
    }"""
    assert not page.evaluate(unload)
    page.route("**/api/films?name=*", lambda route: route.fulfill(status=429, json={}))
    page.evaluate(DROP, [["late.jpg", "late"]])
    expect(page.locator("#sent-list")).to_contain_text("too many a minute")
    assert page.evaluate(unload)


def test_a_page_whose_connection_was_refused_listens_again(view):
    page = view(troubled=True)
    page.route("**/api/events", lambda route: route.fulfill(status=502), times=1)
    page.reload()
    expect(page.locator("#link")).to_contain_text("tries again")
    expect(page.locator("#link")).to_have_text("", timeout=30_000)


TOLD = """window.told = '';
window.EventSource = class extends EventSource {
  constructor(address) {
    super(address);
    this.addEventListener('now', (event) => { window.told = event.data; });
  }
}"""


def test_only_parts_that_changed_are_replaced_and_none_under_a_pointer(view, served):
    """Each second all of it was: a click or a selection could be lost."""
    page = view()
    page.add_init_script(TOLD)
    page.reload()
    worker = page.locator("#live > :first-child").element_handle()
    newest = page.locator("#newest").element_handle()
    page.locator("#live tbody td").nth(2).hover()
    page.mouse.down()
    served.desk.drop(held=b"held")
    served.desk.work_all()
    until(lambda: page.evaluate("told.includes('held.jpg')"), "the page is told")
    assert newest.evaluate("(node) => node.isConnected")
    page.mouse.up()
    expect(page.locator("#live")).to_contain_text("held.jpg")
    assert not newest.evaluate("(node) => node.isConnected")
    assert worker.evaluate("(node) => node.isConnected")
    page.locator("#newest").select_text()
    served.desk.drop(chosen=b"chosen")
    served.desk.work_all()
    until(lambda: page.evaluate("told.includes('chosen.jpg')"), "the page is told")
    assert page.evaluate("getSelection().toString()") == "Newest results"
    page.evaluate("getSelection().empty()")
    expect(page.locator("#live")).to_contain_text("chosen.jpg")


def test_who_is_no_longer_logged_in_is_told_so(browser, new_desk):
    guarded = Served(new_desk(), TOKEN)
    try:
        page = browser.new_page()
        page.goto(guarded.url)
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#live")).to_contain_text("No worker runs")
        cookies = page.context.cookies()
        page.route("**/api/events", lambda route: route.abort() if held else route.continue_())
        held = True
        page.reload()
        held = False
        page.context.clear_cookies()
        login = page.get_by_role("link", name="Log in again")
        expect(login).to_have_attribute("href", "/login?next=/", timeout=30_000)
        page.context.add_cookies(cookies)
        expect(page.locator("#link")).to_have_text("", timeout=30_000)
        page.close()
    finally:
        guarded.end()


def test_who_knows_the_token_comes_in(browser, new_desk):
    guarded = Served(new_desk(), TOKEN)
    try:
        page = browser.new_page()
        page.goto(f"{guarded.url}/results?sort=name")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not the token")
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{guarded.url}/results?sort=name")
        page.goto(guarded.url)
        expect(page.locator("#live")).to_contain_text("No worker runs")
        page.close()
    finally:
        guarded.end()


def test_people_log_in_from_another_machine_without_tls(new_desk, browser):
    """By plain http a browser says less of where a form comes from: nobody could come in."""
    host = outward_address()
    if host is None:
        pytest.skip(f"{NOT_ALLOWED} to be reached by another address than its own")
    one = Served(new_desk(), TOKEN, host)
    page = browser.new_page()
    try:
        page.goto(f"{one.url}/results")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Come in").click()
        expect(page.get_by_role("search")).to_be_visible()
        assert page.url == f"{one.url}/results"
    finally:
        page.close()
        one.end()
