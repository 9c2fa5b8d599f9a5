"""Who may come in: every address is shut, but for those that say nothing of films."""

import itertools
import re
import time
from dataclasses import dataclass

import pytest
from fastapi.routing import iter_route_contexts

from tests.web.conftest import HERE, TOKEN, configure
from worker.errors import ConfigError, UsageError
from worker.web.access import COOKIE
from worker.web.token import SESSION_S, Sessions, find_token, make_token

OPEN = {"/login", "/healthz", "/ping"}
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "content-security-policy": "frame-ancestors 'none'",
    "cache-control": "no-store",
}
_NUMBERS = itertools.count(1)
_PARTS = {"{path:path}": "index.html"}


@dataclass(frozen=True)
class Asked:
    """One address as it is asked for."""

    method: str
    path: str


def addresses(app):
    """Every address of an application, whoever added it."""
    for route in iter_route_contexts(app.routes):
        path = re.sub(r"\{.*?\}", lambda found: _PARTS.get(found[0], "1"), route.path)
        yield from (Asked(method, path) for method in sorted(route.methods))


def old_cookie(monkeypatch, token=TOKEN, age_s=SESSION_S + 60):
    with monkeypatch.context() as then:
        now = time.time()
        then.setattr(time, "time", lambda: now - age_s)
        return f"{COOKIE}={Sessions(token).begin()}"


@pytest.fixture(scope="module")
def guarded_room(new_desk, open_room):
    return open_room(new_desk().config, TOKEN)


@pytest.fixture
def guarded(guarded_room):
    """A reading room that asks for the token, from a browser and an address never seen before."""
    guarded_room.cookies.clear()
    guarded_room._transport.client = (f"192.0.2.{next(_NUMBERS)}", 1)
    return guarded_room


def test_the_walk_finds_the_addresses(shared_room):
    found = {each.path for each in addresses(shared_room.app)}
    assert {"/", "/openapi.json", "/api", "/reports/index.html", "/api/films"} <= found
    assert len(found) >= 17


@pytest.mark.parametrize(
    "kind", ["nothing", "wrong bearer", "empty bearer", "basic", "junk", "expired", "old token"]
)
def test_every_address_is_shut_without_the_token(guarded, monkeypatch, kind):
    headers = {
        "nothing": {},
        "wrong bearer": {"Authorization": f"Bearer {TOKEN}x"},
        "empty bearer": {"Authorization": "Bearer "},
        "basic": {"Authorization": f"Basic {TOKEN}"},
        "junk": {"Cookie": f"{COOKIE}=a.b.c"},
        "expired": {"Cookie": old_cookie(monkeypatch)},
        "old token": {"Cookie": old_cookie(monkeypatch, TOKEN[::-1], age_s=0)},
    }[kind]
    for asked in addresses(guarded.app):
        if asked.path not in OPEN:
            answer = guarded.request(asked.method, asked.path, headers=headers)
            assert answer.status_code == 401, asked
            assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("kind", ["bearer", "cookie"])
def test_the_token_opens_every_address(guarded, monkeypatch, kind):
    cookie = old_cookie(monkeypatch, age_s=SESSION_S - 60)
    headers = {"Authorization": f"bearer {TOKEN}"} if kind == "bearer" else {"Cookie": cookie}
    for asked in addresses(guarded.app):
        if asked.path != "/api/events":  # never ends
            answer = guarded.request(asked.method, asked.path, headers=headers)
            assert answer.status_code in (200, 303, 400, 404, 411, 415, 422), asked


@pytest.mark.parametrize("path", sorted(OPEN))
def test_open_addresses_answer_without_a_token(guarded, path):
    assert guarded.get(path).status_code == 200


def test_browsers_are_led_to_the_login_and_back(guarded):
    answer = guarded.get("/results?q=a%26b", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/login?next=/results%3Fq%3Da%2526b",
    )
    page = guarded.get(answer.headers["location"])
    assert 'value="/results?q=a%26b"' in page.text
    entered = guarded.post("/login", data={"token": TOKEN, "next": "/results?q=a%26b"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/results?q=a%26b")
    assert guarded.get("/results?q=a%26b").status_code == 200


def test_a_browser_whose_session_ended_is_told_so_on_a_page_when_it_sends_something(guarded):
    answer = guarded.post("/reviews", data={}, headers={"Accept": "text/html"})
    assert answer.status_code == 401
    assert "log in" in answer.text.lower()
    assert "<html" in answer.text


@pytest.mark.parametrize(
    "next",
    ["//evil", "/\\evil", "https:evil", "https://evil/", "\n//evil", "/\t/evil", "/\n/e", ""],
)
def test_a_login_leads_nowhere_else(guarded, next):
    answer = guarded.post("/login", data={"token": TOKEN, "next": next})
    assert answer.status_code == 303
    assert re.fullmatch(r"/([^/\\\s][^\\\s]*)?", answer.headers["location"])


@pytest.mark.parametrize(
    "token", ["wrong", "", TOKEN[:-1], "ä", "\udcff".encode("utf-8", "replace")]
)
def test_a_wrong_token_makes_no_session(guarded, token):
    answer = guarded.post("/login", data={"token": token or " "})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_ten_logins_a_minute_and_no_more(guarded):
    codes = [guarded.post("/login", data={"token": "x"}).status_code for _ in range(11)]
    assert codes == [403] * 10 + [429]
    assert guarded.post("/login", data={"token": TOKEN}).status_code == 429


def test_a_client_cannot_make_itself_another_one(guarded):
    codes = [
        guarded.post(
            "/login", data={"token": "x"}, headers={"X-Forwarded-For": f"10.0.0.{n}"}
        ).status_code
        for n in range(11)
    ]
    assert codes[-1] == 429


# What another site makes a browser send


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1:9999"},
    ],
)
def test_nothing_is_done_for_another_site(guarded, headers):
    headers |= {"Authorization": f"Bearer {TOKEN}"}
    for asked in addresses(guarded.app):
        if asked.method == "POST":
            answer = guarded.post(asked.path, headers=headers, content=b"film")
            assert answer.json()["error"] == "foreign-origin", asked


def test_nothing_is_done_for_another_site_where_there_is_no_token(desk, open_room):
    client = open_room(desk.config)
    for asked in addresses(client.app):
        if asked.method == "POST":
            answer = client.post(asked.path, headers={"Sec-Fetch-Site": "cross-site"})
            assert answer.json()["error"] == "foreign-origin", asked
    assert desk.names("inbox") == []


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": HERE}, {}]
)
def test_our_own_page_and_scripts_may_send(room, headers):
    assert room.post("/api/films", headers=headers, content=b"film").status_code == 201


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "[", "", "10.0.0.1"]
)
def test_without_a_token_foreign_names_of_this_machine_are_refused(shared_room, host):
    answer = shared_room.get("/api/results", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]) == (403, "foreign-host")


@pytest.mark.parametrize("host", ["localhost:8080", "localhost", "[::1]:8080", "127.0.0.1:1"])
def test_its_own_names_are_answered(shared_room, host):
    assert shared_room.get("/api/results", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via"])
def test_without_a_token_nobody_is_answered_through_a_proxy(shared_room, name):
    """A proxy that names us as 127.0.0.1, as nginx does by itself, opened the page to the world."""
    assert shared_room.get("/", headers={name: "10.0.0.1"}).status_code == 403


# Headers


@pytest.mark.parametrize(
    ("path", "status"),
    [("/ping", 200), ("/api/status", 401), ("/login?next=a&next=b", 200), ("/nothing", 401)],
)
def test_headers_stand_on_every_answer(guarded, path, status):
    answer = guarded.get(path)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_headers_stand_on_answers_to_mistakes(room, monkeypatch):
    """They were missing from 500: Starlette answers that outside of every middleware."""
    import worker.web.results

    def broken(_engine):
        raise RuntimeError("/secret/name.dcm")

    monkeypatch.setattr(worker.web.results, "counts_by_decision", broken)
    for path, status in (("/nothing", 404), ("/api/results?limit=0", 422), ("/api/status", 500)):
        answer = room.get(path)
        assert answer.status_code == status
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "secret" not in answer.text
        assert f'screen_http_requests_total{{status="{status}"}} 1.0' in room.get("/metrics").text


def test_pages_may_be_framed_by_the_named_sites_only(desk, open_room):
    config = configure(desk.config, serve={"embed": ["https://intranet.example"]})
    answer = open_room(config, TOKEN).get("/login")
    assert answer.headers["content-security-policy"] == "frame-ancestors https://intranet.example"
    assert "x-frame-options" not in answer.headers


@pytest.mark.parametrize(
    ("scheme", "embed", "wanted", "unwanted"),
    [
        ("http", [], {"HttpOnly", "SameSite=Lax", "Path=/"}, {"Secure", "SameSite=None"}),
        ("https", [], {"HttpOnly", "SameSite=Lax", "Secure"}, {"SameSite=None"}),
        (
            "https",
            ["https://a.example"],
            {"SameSite=None", "Secure", "Partitioned"},
            {"SameSite=Lax"},
        ),
    ],
)
def test_flags_of_the_cookie(desk, open_room, scheme, embed, wanted, unwanted):
    client = open_room(configure(desk.config, serve={"embed": embed}), TOKEN)
    answer = client.post(f"{scheme}://127.0.0.1:8080/login", data={"token": TOKEN})
    flags = {flag.strip() for flag in answer.headers["set-cookie"].split(";")}
    assert wanted <= flags
    assert not unwanted & flags
    assert ("strict-transport-security" in answer.headers) == (scheme == "https")


# The token


def test_a_token_that_others_may_read_is_refused(tmp_path):
    file = tmp_path / "serve.token"
    made = make_token(file)
    assert find_token(file, {}) == made
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        find_token(file, {})


@pytest.mark.parametrize("given", ["short", "x" * 19, "ä" * 30, "with a line\nbreak in the token"])
def test_a_token_that_cannot_guard_is_refused(tmp_path, given):
    with pytest.raises(ConfigError, match="token"):
        find_token(tmp_path / "none", {"SCREEN_TOKEN": given})
    (tmp_path / "serve.token").write_text(given)
    (tmp_path / "serve.token").chmod(0o600)
    with pytest.raises(ConfigError, match="token"):
        find_token(tmp_path / "serve.token", {})


def test_an_empty_token_file_does_not_open_the_page(tmp_path):
    (tmp_path / "serve.token").touch(0o600)
    with pytest.raises(ConfigError):
        find_token(tmp_path / "serve.token", {})


def test_a_token_is_never_written_over(tmp_path):
    make_token(tmp_path / "serve.token")
    with pytest.raises(UsageError, match="remove it first"):
        make_token(tmp_path / "serve.token")


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--host", "::"]])
def test_it_does_not_listen_to_others_without_a_token(screen, desk, options):
    ended = screen("serve", *options, "--port", "1", cwd=desk.config.root)
    assert ended.returncode == 2
    assert "screen serve --make-token" in ended.stderr


def test_it_does_not_stand_behind_a_proxy_without_a_token(screen, desk):
    configure(desk.config, serve={"proxies": ["127.0.0.1"]})
    ended = screen("serve", "--port", "1", cwd=desk.config.root)
    assert (ended.returncode, "behind a proxy a token is needed" in ended.stderr) == (2, True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ],
)
def test_another_site_may_lead_here_but_not_ask_behind_its_readers_back(
    desk, open_room, headers, status
):
    assert open_room(desk.config).get("/api/status", headers=headers).status_code == status
