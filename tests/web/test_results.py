"""Results over HTTP are those of `screen query`, page by page, and hostile names stay text."""

import json
from dataclasses import replace
from html import unescape

import pytest
from click.testing import CliRunner

from tests.standin import StandInScreener, make_card
from worker.cli.main import cli
from worker.errors import TruncatedFile

NAMES = [
    *("a.jpg", "b.jpg", "100%.jpg", "1000.jpg", "under_score.jpg", "underXscore.jpg", "UPPER.jpg"),
    *("<script>alert(1)<.jpg", "{{7*7}}.jpg", "\u202egnp.jpg", "x' onload='y.jpg", '"quoted".jpg'),
]


@pytest.fixture(scope="module")
def met(new_desk, open_room):
    """A site that screened some films, with its room."""
    desk = new_desk()
    for number, name in enumerate(NAMES):
        (desk.site.inbox / name).write_bytes(b"film %d" % number)
    (desk.site.inbox / "again.jpg").write_bytes(b"film 0")
    desk.work_all()
    return desk, open_room(desk.config)


def found(room, **wanted):
    answer = room.get("/api/results", params=wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def names(results):
    return [each["file"].rpartition("/")[2] for each in results]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"decision": "PNEUMONIA"},
        {"status": "duplicate"},
        {"min_probability": "0.3", "max_probability": "0.7"},
        {"since": "2026-05-03", "until": "2026-05-03"},
        {"until": "2026-05-02"},
        {"source": "inbox"},
        {"run": "1"},
        {"reason": "nothing"},
        {"limit": "3"},
    ],
)
def test_results_are_those_of_screen_query(met, wanted):
    desk, room = met
    options = [f"--{key.replace('_', '-')}={value}" for key, value in wanted.items()]
    said = CliRunner().invoke(
        cli, ["--config", str(desk.config.root / "config.toml"), "query", "--json", *options]
    )
    assert said.exit_code == 0, said.output
    lines = json.loads(said.stdout)
    assert lines or wanted
    columns = list(lines[0]) if lines else []
    ours = [{name: each[name] for name in columns} for each in found(room, **wanted)]
    assert sorted(ours, key=str) == sorted(lines, key=str)
    if not wanted:
        assert ours == lines
        assert len(ours) == len(NAMES) + 1


@pytest.mark.parametrize("sort", ["newest", "oldest", "score", "name"])
def test_pages_cover_everything_once_and_in_order(met, sort):
    _, room = met
    whole = found(room, sort=sort)
    leafed = [each for n in range(0, 20, 5) for each in found(room, sort=sort, offset=n, limit=5)]
    assert leafed == whole
    assert len(whole) == len(NAMES) + 1
    if sort == "score":
        scores = [each["probability"] for each in whole]
        assert scores == sorted(scores, reverse=True)
    if sort == "oldest":
        assert whole == found(room)[::-1]


@pytest.mark.parametrize(
    ("q", "wanted"),
    [
        ("%", {"100%.jpg"}),
        ("_", {"under_score.jpg"}),
        ("upper", {"UPPER.jpg"}),
        ("\\", set()),
        ("'", {"x' onload='y.jpg"}),
        ("nowhere", set()),
    ],
)
def test_a_search_takes_its_words_as_they_are(met, q, wanted):
    _, room = met
    assert set(names(found(room, q=q))) == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        "limit=0",
        "limit=1001",
        "offset=-1",
        "offset=10000001",
        "min_probability=2",
        "min_probability=nan",
        "sort=secret",
        "since=yesterday",
        "run=99999999999999999999999",
        "run=0",
        "status=waiting",
        "unknown=1",
        "q=%00",
        "q=" + "x" * 201,
    ],
)
@pytest.mark.parametrize("path", ["/api/results", "/results"])
def test_what_cannot_be_asked_is_refused(met, path, wanted):
    """A run of 30 digits was a mistake of the program: SQLite's numbers end before."""
    _, room = met
    assert room.get(f"{path}?{wanted}").status_code == 422


def test_an_empty_form_asks_for_everything(met):
    _, room = met
    empty = "q=&decision=&status=&verdict=&reviewed=&since=&until=&run=&min_probability=&sort=score"
    page = room.get(f"/results?{empty}")
    assert page.status_code == 200
    assert f"of {len(NAMES) + 1} results" in page.text


def test_hostile_names_stay_text_on_every_page(met):
    _, room = met
    for path in ("/", "/results", "/results?q=%3Cscript%3Ealert(2)", "/reports/index.html"):
        page = room.get(path).text
        assert "<script>alert" not in page
        assert "{{7*7}}" in unescape(page) or "q=" in path
        assert "\u202e" not in page
        assert "onload='y" not in page


@pytest.mark.parametrize(
    "query", ["?q=%22%3E%3Cscript%3Ex", "?decision=%22%3E%3Cscript%3Ex", "?sort=%3Cscript%3Ex"]
)
def test_what_was_asked_is_echoed_as_text(met, query):
    _, room = met
    page = room.get(f"/results{query}", headers={"Accept": "text/html"}).text
    assert "<script>x" not in page


@pytest.mark.parametrize(
    "path",
    [
        "../screen.db",
        "..%2fscreen.db",
        "%2e%2e/screen.db",
        "films/%2e%2e/%2e%2e/screen.db",
        ".lock",
        ".site",
        "screen.db",
        "/etc/passwd",
        "link.html",
        "pictures/link.jpg",
        "films",
        "",
        "index.html%00",
        "INDEX.HTML",
    ],
)
def test_reports_are_what_the_worker_wrote_and_nothing_else(met, path):
    desk, room = met
    for link in ("link.html", "pictures/link.jpg"):
        if not (at := desk.site.reports / link).is_symlink():
            at.symlink_to(desk.config.root / "config.toml")
    answer = room.get(f"/reports/{path}")
    assert answer.status_code == 404
    assert "[watch]" not in answer.text


def test_pages_from_the_disk_have_the_way_to_the_rooms(met):
    _, room = met
    page = room.get("/reports/index.html").text
    assert '<nav class="rooms"' in page
    assert "<!-- rooms -->" not in page


def test_states_of_films_are_asked_by_digests_only(met):
    _, room = met
    assert room.get("/api/films").status_code == 422
    assert room.get("/api/films?sha256=../x").status_code == 422
    many = "&".join(["sha256=" + "ab" * 32] * 101)
    assert room.get(f"/api/films?{many}").status_code == 422


@pytest.mark.databases
def test_a_film_that_is_sent_again_has_not_its_earlier_answer(desk, room):
    """It was shown as done at once, while it still lay in the inbox."""
    sha256 = room.post("/api/films?name=a.jpg", content=b"film").json()["sha256"]
    desk.work_all()
    after = room.post("/api/films?name=again.jpg", content=b"film").json()["after"]

    def answer(after):
        [film] = room.get("/api/films", params={"sha256": sha256, "after": after}).json()
        return film["result"] and film["result"]["status"]

    assert (answer(0), answer(after)) == ("screened", None)
    desk.work_all()
    assert (answer(0), answer(after)) == ("duplicate", "duplicate")
    both = {"sha256": [sha256, sha256], "after": [after, after + 1]}
    assert [each["result"] is None for each in room.get("/api/films", params=both).json()] == [
        False,
        True,
    ]
    for wrong in ([1, 2, 3], [-1], [1 << 63]):
        params = {"sha256": [sha256, sha256], "after": wrong}
        assert room.get("/api/films", params=params).status_code == 422


class Refusing(StandInScreener):
    """Refuses films that say so; their score is above that of most others."""

    def _record(self, file, examined):
        record = super()._record(file, examined)
        if "refuse" not in file:
            return record
        return replace(record, decision="REFUSED", probability=0.99, reason="wrong-modality")


@pytest.fixture(scope="module")
def refused(new_desk, open_room):
    """Six films with an answer, three that were refused, and one that could not be read."""
    desk = new_desk()
    desk.screener = Refusing(make_card())
    desk.screener.errors[b"cut"] = [TruncatedFile("cut short")]
    desk.drop(**{f"refuse-{n}": b"r%d" % n for n in range(3)}, cut=b"cut")
    desk.work_all()
    desk.drop(**{f"film-{n}": b"f%d" % n for n in range(6)})
    desk.work_all()
    return open_room(desk.config)


def test_refused_and_failed_films_come_after_all_scores(refused):
    """Their unvalidated scores stood among validated ones."""
    whole = found(refused, sort="score")
    scores = [each["probability"] for each in whole if each["decision"] != "REFUSED"]
    assert scores == sorted(scores, reverse=True)
    assert [each["decision"] == "REFUSED" for each in whole] == [False] * 6 + [True] * 4
    last = [each["file"] for each in found(refused) if each["decision"] == "REFUSED"]
    assert [each["file"] for each in whole[6:]] == last
    for size in (1, 3, 4, 6):
        leafed = [found(refused, sort="score", offset=n, limit=size) for n in range(0, 12, size)]
        assert [each for leaf in leafed for each in leaf] == whole
    assert names(found(refused, sort="score", decision="REFUSED", offset=3)) == names(whole[-1:])


def test_a_score_finds_refused_films_only_where_they_are_asked_for(refused):
    answered = found(refused, min_probability=0)
    assert {each["decision"] for each in answered} <= {"PNEUMONIA", "NORMAL"}
    assert len(answered) == 6
    assert len(found(refused, min_probability=0, sort="score")) == 6
    assert len(found(refused, min_probability=0.9, decision="REFUSED")) == 3
