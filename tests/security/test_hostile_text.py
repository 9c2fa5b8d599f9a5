"""Tags and names of hostile films, through the real program: pages, tables, logs, folders."""

import csv
import io
import json
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from sqlalchemy import text

from tests.security.conftest import MARKER, NAMES, scripts_of
from worker.records import IDENTIFYING
from worker.site import read_site

pytestmark = pytest.mark.slow

# fmt: off
OUR_TAGS = {
    "a", "b", "bdi", "body", "br", "button", "caption", "circle", "code", "dd", "defs", "desc",
    "details", "div", "dl", "dt", "em", "fecomponenttransfer", "fefuncb", "fefuncg", "fefuncr",
    "fieldset", "figcaption", "figure", "filter", "footer", "g", "h1", "h2", "h3", "h4", "head",
    "header", "html", "image", "img", "input", "kbd", "label", "legend", "li", "line",
    "linearGradient", "lineargradient", "link", "main", "meta", "nav", "p", "path", "pattern",
    "polygon", "polyline", "rect", "script", "section", "small", "span", "stop", "strong",
    "style", "summary", "svg", "symbol", "table", "tbody", "td", "text", "th", "thead", "time",
    "title", "tr", "ul", "use", "wbr",
}
# fmt: on


class Page(HTMLParser):
    """Elements and attributes; text is of no interest but for our marker."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def pages(met):
    return sorted(met.config.site.reports.rglob("*.html"))


@pytest.fixture(scope="session")
def evaluated(met, screen, hostile_films, tiny_model):
    """`evaluate` over films with hostile names; the folder of its results."""
    folder = met.archive.parent / "evaluated"
    folder.mkdir()
    films = [name for name in hostile_films if (met.archive / name).exists()]
    with (folder / "labels.csv").open("w", newline="", errors="surrogateescape") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label"))
        named = (name for name in films if name.isprintable())
        rows.writerows((name, ["NORMAL", "PNEUMONIA"][i % 2]) for i, name in enumerate(named))
    screen(
        *("evaluate", met.archive, "--labels", folder / "labels.csv", "--model", tiny_model),
        *("--html", folder / "e.html", "--json", folder / "e.json"),
        *("--predictions", folder / "e.csv"),
        cwd=folder,
    )
    return folder


def test_hostile_films_are_screened_like_any_other(met, hostile_films):
    """Both runs came to their end, and said so by their exit code: some files are no films."""
    assert (met.watched.returncode, met.filled.returncode) == (3, 3), met.watched.stderr
    with read_site(met.config) as engine, engine.connect() as connection:
        states = dict(
            connection.execute(text("SELECT state, count(*) FROM files GROUP BY state")).all()
        )
    assert states["failed"] == 4  # twice the two that are no films
    assert states["screened"] == len(hostile_films) - 2
    assert set(states) == {"failed", "screened", "duplicate"}


def test_no_element_of_a_page_comes_from_a_film(met, evaluated):
    seen = ""
    for path in [*pages(met), evaluated / "e.html"]:
        page = Page(path.read_text(encoding="utf-8"))
        seen += page.text
        for tag, attributes in page.elements:
            assert tag in OUR_TAGS, tag
            assert not any(name.startswith("on") for name in attributes), (tag, attributes)
            for name in ("href", "src"):
                target = attributes.get(name) or "#"
                assert not re.match(r"\s*(javascript|vbscript|https?|//)", target, re.I), target
        scripts = [a for tag, a in page.elements if tag == "script"]
        assert len(scripts) == scripts_of(path)
    assert MARKER in seen  # the films did reach the pages
    assert "<svg onload" in seen


def test_a_page_holds_no_character_that_hides_or_deceives(met):
    for path in pages(met):
        html = path.read_text(encoding="utf-8")
        hidden = {c for c in html if unicodedata.category(c) in ("Cc", "Cf", "Cs")} - {"\n"}
        assert hidden == set()


def test_endless_tags_do_not_make_endless_pages(met):
    assert all(path.stat().st_size < 1_000_000 for path in pages(met))


def test_the_log_says_nothing_of_names_and_tags(met):
    for run in (met.watched, met.filled):
        assert MARKER.lower() not in run.stderr.lower()
        assert "\x1b" not in run.stderr
    assert MARKER.lower() not in met.filled.stdout.lower()


def test_nothing_a_terminal_shows_commands_it(met, screen, tiny_model):
    commands = [
        ("query", "--limit", 100),
        ("query", "--status", "failed"),
        ("status",),
        ("classify", met.archive, "--model", tiny_model),
        ("classify", met.archive / "nowhere\x1b[2J.dcm"),
        ("backfill", met.archive / "nowhere\x1b[2J"),
    ]
    for command in commands:
        shown = screen(*command, cwd=met.config.root)
        said = shown.stdout + shown.stderr
        assert said
        odd = {char for char in said if unicodedata.category(char) in ("Cc", "Cf")} - {"\n"}
        assert odd == set(), (command, odd)


def test_the_table_has_one_line_a_film(met, screen):
    shown = screen("query", "--limit", 100, cwd=met.config.root).stdout.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in shown[1:])


def test_no_cell_of_a_table_is_a_formula(met, screen, evaluated):
    queried = screen("query", "--csv", cwd=met.config.root).stdout
    predicted = (evaluated / "e.csv").read_bytes().decode("utf-8")
    for table in (queried, predicted):
        rows = list(csv.reader(io.StringIO(table, newline="")))
        assert len({len(row) for row in rows}) == 1
        cells = [cell for row in rows[1:] for cell in row]
        assert any(MARKER in cell for cell in cells)
        text_cells = (cell for cell in cells if not re.fullmatch(r"-?[\d.e+-]+", cell))
        assert not any(re.match(r"\s*[=+@\t\r-]", cell) for cell in text_cells)


def test_json_gives_names_back_as_they_were(met, screen):
    records = json.loads(screen("query", "--json", cwd=met.config.root).stdout)
    files = {record["file"] for record in records}
    assert {name for name in NAMES if name.isprintable()} <= files


def test_hostile_names_stay_in_their_folder(met, screen, tiny_model, tree):
    """Also an overlay's name made of characters of four bytes, which was too long to be written."""
    folder = met.archive.parent / "overlays"
    before = tree(met.archive)
    shown = screen(
        *("classify", met.archive, "--overlay", folder, "--model", tiny_model, "--json"),
        cwd=met.archive.parent,
    )
    assert shown.returncode == 3, shown.stderr
    films = [json.loads(line) for line in shown.stdout.splitlines()]
    decoded = [film for film in films if film["probability"] is not None]
    assert len(list(folder.iterdir())) == len(decoded)
    assert all(path.is_file() and path.suffix == ".jpg" for path in folder.iterdir())
    assert tree(met.archive) == before
    assert {path.name for path in met.archive.parent.iterdir()} <= {
        *("archive", "site", "overlays", "evaluated")
    }
    assert {path.name for path in met.config.root.iterdir()} >= {"done", "failed", "screen.db"}


def test_page_names_are_content_and_never_a_films_name(met):
    for path in (met.config.site.reports / "films").iterdir():
        assert re.fullmatch(r"[0-9a-f]{24}-[0-9a-f]{8}\.html", path.name)


def test_the_database_is_sound_after_names_made_of_sql(met, screen):
    assert screen("db", "check", cwd=met.config.root).stdout == "the database is sound\n"


def test_patients_are_in_no_table(met):
    """PatientName and PatientID of every film were the marker; no column holds them."""
    with read_site(met.config) as engine, engine.connect() as connection:
        columns = {row.name for row in connection.execute(text("PRAGMA table_info(films)"))}
        named = connection.execute(text("SELECT count(patient_name) FROM films")).scalar()
    identifying = {name for name in IDENTIFYING if "patient" in name}
    assert {name for name in columns if "patient" in name} == identifying | {"patient_age_years"}
    assert named == 0  # but where a site wants names: test_patients
