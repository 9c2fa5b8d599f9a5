"""What every page must say, and what no page may do."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from worker.records import Decision, Tags
from worker.report.environment import render
from worker.report.pages import film_page, worklist_pages
from worker.report.wording import CAVEAT, INT8_HEAT_MAP, why
from worker.store.previous import PreviousFilm

EVIL = "\u202e\"'><script>alert(1)</script>\n\udcff\x00<img src=x onerror=alert(1)>"
OUTSIDE = {
    "decision": Decision.REFUSED,
    "reason": "outside-validated-population",
    "message": "The patient is 64 years old.",
}


class Elements(HTMLParser):
    """All start tags of a page, the texts of its inline scripts and styles, and all its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.inline, self.text = [], {"script": [], "style": []}, ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.inline:
            self.inline[tag].append("")

    def handle_data(self, data):
        tag = self.tags[-1][0] if self.tags else ""
        if tag in self.inline and self.cdata_elem == tag:
            self.inline[tag][-1] += data
        else:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def every_page(film, record, row, failure, run):
    noon, model = run.started_at, film().model
    rows = [row("a.png", Decision.PNEUMONIA, 0.9), failure("b.png")]
    refused = film(record=record(**OUTSIDE))
    pages = [film_page(film()), film_page(refused), film_page(film(evidence=None))]
    pages += worklist_pages(rows, [run], model, noon).values()
    return [*pages, *worklist_pages([], [], None, noon).values()]


def test_a_heat_map_of_an_int8_file_says_so(film, model):
    assert INT8_HEAT_MAP not in film_page(film())
    small = replace(model, is_int8=True)
    assert film_page(film(model=small)).count(INT8_HEAT_MAP) == 2  # legend, and how to read it
    assert INT8_HEAT_MAP not in film_page(film(model=small, evidence=None))


def test_every_page_says_that_it_is_no_diagnosis(every_page):
    assert all(CAVEAT in Elements(page).text for page in every_page)


def test_no_page_loads_anything(every_page):
    for page in every_page:
        assert not re.search(r"https?://|//\w+\.\w|@import|url\((?!#)", page)
        for tag, attrs in Elements(page).tags:
            for name in ("src", "srcset", "href", "data", "action", "poster"):
                target = attrs.get(name, "#")
                assert not re.match(r"[a-z+.-]+:", target) or target.startswith("data:"), (
                    tag,
                    attrs,
                )


def test_policy_allows_only_our_own_style_and_scripts(every_page):
    for page in every_page:
        elements = Elements(page)
        [policy] = [m["content"] for m in elements.all("meta") if "http-equiv" in m]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert rules["img-src"] == "data:"
        assert "unsafe" not in policy
        for kind in ("script", "style"):
            hashes = [
                base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
                for source in elements.inline[kind]
            ]
            assert rules[f"{kind}-src"].split() == [f"'sha256-{value}'" for value in hashes]


def test_no_inline_handlers_or_styles_which_the_policy_would_stop(every_page):
    for page in every_page:
        for tag, attrs in Elements(page).tags:
            assert not [name for name in attrs if name == "style" or name.startswith("on")], tag


def test_hostile_text_is_shown_and_never_run(film, record, row, failure, run):
    noon, model = run.started_at, film().model
    tags = Tags(EVIL, EVIL, EVIL, 0.5, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL)
    says = record(file=EVIL, reason=EVIL, message=EVIL, model=EVIL, sha256=EVIL)
    view = film(record=says, tags=tags, notes=(EVIL,), duplicates=(EVIL,), format=EVIL)
    rows = [row(EVIL, Decision.REFUSED, 0.5, page="films/a.html"), failure(EVIL, EVIL)]
    rows.append(row(EVIL, Decision.REFUSED, 0.5, page="films/a.html", status="duplicate"))
    pages = [film_page(view), *worklist_pages(rows, [run], model, noon).values()]
    for page in pages:
        elements = Elements(page)
        assert len(elements.all("script")) == (3 if page is pages[0] else 2)
        assert not elements.all("img")
        assert "\u202e" not in page
        assert r"\u202e" in elements.text
        assert r"\udcff\x00<img src=x" in elements.text
        page.encode("utf-8")


def test_a_film_without_any_tag_or_optional_value_renders(film, record):
    says = record(sha256=None, probability=None, guard_score=None)
    page = film_page(film(record=says, tags=Tags(), evidence=None))
    assert "None" not in Elements(page).text


def test_a_name_that_a_template_does_not_know_is_an_error():
    with pytest.raises(UndefinedError):
        render("film.html")


def test_a_refused_film_folds_its_score_away(film, record):
    page = film_page(film(record=record(**OUTSIDE)))
    folded = re.search(r'<details class="fold" id="score">(.*?)</details>', page, re.DOTALL)
    assert folded
    assert "not validated for this film" in folded[0]
    assert "0.874" in folded[0]
    assert "0.874" not in page.replace(folded[0], "")
    assert "Outside validated population" in page
    assert "The patient is 64 years old." in page


@pytest.mark.parametrize("decision", [Decision.REFUSED, Decision.PNEUMONIA])
def test_score_and_heat_map_of_a_film_outside_the_population_are_marked(film, record, decision):
    page = film_page(film(record=record(**{**OUTSIDE, "decision": decision})))
    legend = page[page.index('id="heat-label"') :]
    assert legend.index("Not validated for this film.") < legend.index("fixed scale")
    assert "not validated for this film</small>" in page


def test_an_answered_film_is_not_marked(film):
    assert "not validated for this film" not in film_page(film()).lower()


def test_a_film_page_shows_score_threshold_and_band(film):
    text = Elements(film_page(film())).text
    for words in ("0.874", "threshold 0.620", "abstention band 0.450–0.740", "PNEUMONIA"):
        assert words in text


@pytest.mark.parametrize(
    ("changes", "tags", "says"),
    [
        ({}, Tags(), ["0.874 lies above the abstention band 0.450–0.740."]),
        (
            {"decision": Decision.NORMAL, "probability": 0.0004},
            Tags(),
            ["<0.001 lies below the abstention band 0.450–0.740."],
        ),
        (
            {"decision": Decision.INDETERMINATE, "probability": 0.61},
            Tags(),
            ["0.610 lies between 0.450 and 0.740."],
        ),
        (
            OUTSIDE | {"guard_score": 0.95},
            Tags(patient_age_years=34.6),
            [
                "Age 34 years; the model was validated on 1–5 years.",
                "Guard score 0.950, above its limit 0.900.",
            ],
        ),
        (
            OUTSIDE,
            Tags(patient_age_years=0.5),
            ["Age 6 months; the model was validated on 1–5 years."],
        ),
        (
            OUTSIDE | {"guard_score": 0.95},
            Tags(patient_age_years=5.9),
            ["Guard score 0.950, above its limit 0.900."],
        ),
        (
            OUTSIDE | {"decision": Decision.PNEUMONIA, "guard_score": 0.95},
            Tags(),
            [
                "Guard score 0.950, above its limit 0.900.",
                "0.874 lies above the abstention band 0.450–0.740.",
            ],
        ),
        (
            OUTSIDE | {"reason": "not-a-chest-radiograph", "guard_score": 0.95},
            Tags(),
            ["Guard score 0.950, above its limit 0.900."],
        ),
        (
            OUTSIDE | {"reason": "lateral-view"},
            Tags(view_position="LL"),
            ["ViewPosition is LL."],
        ),
        (OUTSIDE | {"reason": "too-small", "guard_score": 0.95}, Tags(), []),
    ],
)
def test_a_page_says_why_it_was_so_here(film, record, changes, tags, says):
    view = film(record=record(**changes), tags=tags)
    assert why(view.record, view.model, tags) == says
    text = Elements(film_page(view)).text
    assert all(fact in text for fact in says)


def test_a_refusal_says_what_its_reason_means(film, record):
    text = Elements(film_page(film(record=record(**OUTSIDE | {"reason": "veterinary"})))).text
    assert "The tags say that the patient is an animal. The model does not answer" in text


def test_a_page_says_which_model_answered_and_whom_it_was_validated_on(film, model):
    text = Elements(film_page(film())).text
    for words in ("default, version 3", model.weights_sha256, "one hospital, 1 to 5 years old"):
        assert words in text


def test_indeterminate_asks_for_a_human(film, record):
    page = film_page(film(record=record(decision=Decision.INDETERMINATE, probability=0.6)))
    assert "inside the abstention band" in page
    assert "A human must decide" in page


def test_normal_does_not_exclude_other_disease(film, record):
    page = film_page(film(record=record(decision=Decision.NORMAL, probability=0.01)))
    assert "other disease is not excluded" in page


@pytest.mark.parametrize("decision", ["TUBERCULOSIS", "CLEAR", "INDETERMINATE", "REFUSED"])
def test_a_page_speaks_of_what_its_model_looks_for(film, record, model, decision):
    model = replace(model, labels=("CLEAR", "TUBERCULOSIS"), intended_use="tuberculosis")
    for evidence in (film().evidence, film().evidence - 9):
        page = film_page(
            film(model=model, record=record(decision=decision, reason="why"), evidence=evidence)
        )
        assert "Evidence for TUBERCULOSIS" in page
        assert "0 CLEAR" in page
        assert not re.search("(?i:pneumonia)|NORMAL", page)


def test_an_empty_heat_map_says_so(film):
    evidence = film().evidence.clip(max=-0.1)
    assert "None on this film" in film_page(film(evidence=evidence))
    assert "gave no heat map" in film_page(film(evidence=None))


def test_a_film_page_says_what_the_decoder_assumed_and_who_answered(film, model):
    notes = ("assumed the first of two windows",)
    page = film_page(film(notes=notes, duplicates=("/inbox/copy.png",)))
    for words in (
        notes[0],
        "/inbox/copy.png",
        model.weights_sha256,
        "not a segmentation",
        "adults",
    ):
        assert words in page


def test_a_film_page_leads_back_to_the_worklist(film):
    assert 'href="../index.html"' in film_page(film())
    assert 'href="../../index.html"' in film_page(film(page="films/ab/ab12.html"))


def test_ids_of_a_page_are_unique(every_page):
    for page in every_page:
        ids = [attrs["id"] for _, attrs in Elements(page).tags if "id" in attrs]
        assert len(ids) == len(set(ids))


def test_a_film_without_an_age_says_that_it_was_judged_by_its_looks(film):
    assert "judged by its looks alone" in film_page(film())
    assert "judged by its looks alone" not in film_page(film(tags=Tags(patient_age_years=3)))


def words(page):
    """All that a page says, with single spaces."""
    return " ".join(Elements(page).text.split())


def test_date_and_equipment_stand_among_the_facts(film):
    said = {"study_date": "2024-01-31", "manufacturer": "Maker", "station_name": "ROOM1"}
    text = words(film_page(film(tags=Tags(**said, manufacturer_model_name="X1"))))
    assert "Study date2024-01-31" in text
    assert "EquipmentMaker X1, ROOM1" in text
    text = words(film_page(film(tags=Tags(**said, manufacturer_model_name="Maker X1"))))
    assert "EquipmentMaker X1, ROOM1" in text


@pytest.mark.parametrize(("said", "warned"), [("YES", True), ("NO", False), (None, False)])
def test_text_in_the_picture_is_a_warning(film, said, warned):
    page = film_page(film(tags=Tags(burned_in_annotation=said)))
    assert ("text is burned into the picture" in page) is warned


def test_previous_films_lead_to_their_pages(film, noon):
    labels = ("NORMAL", "PNEUMONIA")
    previous = (
        PreviousFilm("2024-01-31", noon, "PNEUMONIA", labels, "films/cd34.html"),
        PreviousFilm(None, noon, "REFUSED", labels, None),
    )
    page = film_page(film(previous=previous))
    assert '<a href="../films/cd34.html">2024-01-31</a>' in page
    text = words(page)
    assert "Previous films, same patient ID 2024-01-31 PNEUMONIA" in text
    assert "2026-05-03 REFUSED (date of screening) (no report)" in text
    assert "Previous films" not in film_page(film())
