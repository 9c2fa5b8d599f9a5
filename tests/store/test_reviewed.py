"""`screen evaluate --reviews`: what readers saw is the truth that a site has."""

import csv
import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from tests.standin import exported_card
from worker.errors import NothingRead, UsageError
from worker.evaluate.reviewed import reviewed_films, wrong_films
from worker.store.reviews import Review, add_review
from worker.store.work import register_model

pytestmark = pytest.mark.databases

FILMS = (  # file, probability, decision; then each review: verdict, finding
    ("person1_virus_6.jpeg", 0.9, "PNEUMONIA", ("agree", "PNEUMONIA")),
    ("person1_virus_7.jpeg", 0.8, "PNEUMONIA", ("agree", "PNEUMONIA"), ("disagree", "NORMAL")),
    ("IM-0001-0001.jpeg", 0.1, "NORMAL", ("agree", "NORMAL")),
    ("d.jpeg", 0.2, "NORMAL", ("disagree", "PNEUMONIA")),
    ("e.jpeg", 0.55, "INDETERMINATE", ("agree", "PNEUMONIA")),
    ("f.jpeg", 0.5, "INDETERMINATE", ("unclear", None)),
    ("g.jpeg", 0.1, "NORMAL"),
)


@pytest.fixture
def settings(site):
    """Here the database is that of a whole site."""
    return site.database


@pytest.fixture
def review(engine, noon):
    def add(screening_id, verdict, finding):
        add_review(engine, Review(screening_id, verdict, finding, "", "Dr. Ada", noon))

    return add


@pytest.fixture
def ward(shop, review):
    """A site with seven answers; readers reviewed six of them, one twice."""
    for number, (file, probability, decision, *reviews) in enumerate(FILMS, start=1):
        says = {"probability": probability, "decision": decision}
        shop.finish(shop.screened(shop.item(file), f"{number:064x}", **says))
        for verdict, finding in reviews:
            review(number, verdict, finding)
    return shop


def test_the_newest_review_says_what_a_film_shows(ward, engine):
    found = reviewed_films(engine)
    assert [(film.record.file, film.label) for film in found.scored] == [
        ("person1_virus_6.jpeg", "PNEUMONIA"),
        ("person1_virus_7.jpeg", "NORMAL"),
        ("IM-0001-0001.jpeg", "NORMAL"),
        ("d.jpeg", "PNEUMONIA"),
        ("e.jpeg", "PNEUMONIA"),
    ]
    assert found.to_json() == {
        "films": 7, "reviewed": 6, "without_finding": 1, "other_models": 0,
    }  # fmt: skip


def test_scores_and_decisions_are_those_that_were_given(ward, engine):
    records = {film.record.file: film.record for film in reviewed_films(engine).scored}
    assert (records["e.jpeg"].probability, records["e.jpeg"].decision) == (0.55, "INDETERMINATE")


def test_films_of_one_patient_are_one_group(ward, engine):
    first, second, *others = (film.group for film in reviewed_films(engine).scored)
    assert first == second == "person1"
    assert len({*others, first}) == 4


def test_films_of_the_same_name_in_two_folders_are_two_patients(shop, engine, review):
    files = ("ward3/001.jpg", "ward4/001.jpg", "ward3/person1_virus_6.jpeg", "person1_virus_7.jpeg")
    for number, file in enumerate(files, start=1):
        shop.finish(shop.screened(shop.item(file), f"{number:064x}"))
        review(number, "agree", "PNEUMONIA")
    found = reviewed_films(engine)
    groups = [film.group for film in found.scored]
    assert groups == ["ward3/001.jpg", "ward4/001.jpg", "person1", "person1"]
    assert "guessed from other files' names" in found.remark


def test_a_duplicate_is_not_counted_twice(ward, engine):
    ward.finish(ward.duplicate(ward.item("copy.jpeg"), f"{1:064x}"))
    assert len(reviewed_films(engine).scored) == 5


def test_films_of_one_study_are_one_group(ward, engine):
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE films SET study_instance_uid = '1.2.3' WHERE id IN (3, 4)"
        )
    groups = {film.record.file: film.group for film in reviewed_films(engine).scored}
    assert groups["IM-0001-0001.jpeg"] == groups["d.jpeg"] == "1.2.3"


@pytest.fixture
def two_models(ward, engine, new_card, review, noon):
    """An answer of a newer model, of other weights, was reviewed last."""
    weights = new_card().weights.model_copy(update={"sha256": "ef" * 32})
    newer = new_card(name="newer", weights=weights)
    ward.model_id = register_model(engine, newer, "2", noon)
    says = {"model": "newer", "weights_sha256": "ef" * 32}
    ward.finish(ward.screened(ward.item("new.jpeg"), "bb" * 32, **says))
    review(8, "agree", "PNEUMONIA")
    return ward


def test_one_model_is_measured_that_of_the_newest_review(two_models, engine):
    found = reviewed_films(engine)
    assert [film.record.file for film in found.scored] == ["new.jpeg"]
    assert (found.films, found.other_models, found.card.name) == (1, 6, "newer")


def test_or_the_one_that_was_asked_for(two_models, engine, card):
    found = reviewed_films(engine, card.weights.sha256)
    assert (len(found.scored), found.other_models) == (5, 1)
    assert reviewed_films(engine, "efefef").card.name == "newer"


def test_weights_that_were_never_reviewed_are_an_error_that_names_the_others(two_models, engine):
    with pytest.raises(
        UsageError, match=r"weights 0123456789; reviewed are those of newer efefefefefef, "
    ):
        reviewed_films(engine, "0123456789")


def test_without_reviews_there_is_nothing_to_measure_with(shop, engine, review):
    shop.finish(shop.screened(shop.item("a.jpeg")))
    with pytest.raises(NothingRead, match="no answer has been reviewed"):
        reviewed_films(engine)
    review(1, "unclear", None)
    with pytest.raises(NothingRead, match="none of the 1 reviewed answers"):
        reviewed_films(engine)


def test_the_most_wrong_films_have_the_pictures_that_were_stored(ward, engine, site):
    reviewed = reviewed_films(engine)
    picture = cv2.imencode(".jpg", np.full((64, 48), 90, np.uint8))[1].tobytes()
    pictures = {
        film.record.file: site.site.reports / "pictures" / "0000.jpg" for film in reviewed.scored
    }
    for path in pictures.values():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture)
    wrong = wrong_films(engine, reviewed, site.site.reports, 5, 32)
    assert {film.record.file for film in wrong} == {
        "person1_virus_7.jpeg", "d.jpeg", "e.jpeg",
    }  # fmt: skip
    assert all(film.picture_jpeg and film.overlay_jpeg for film in wrong)
    by_int8 = replace(reviewed, card=exported_card("onnx", "int8"))  # whose maps may be far off
    wrong = wrong_films(engine, by_int8, site.site.reports, 5, 32)
    assert all(film.picture_jpeg and film.overlay_jpeg is None for film in wrong)
    (site.site.reports / "pictures" / "0000.jpg").unlink()
    wrong = wrong_films(engine, reviewed, site.site.reports, 5, 32)
    assert all(film.picture_jpeg is film.overlay_jpeg is None for film in wrong)


# The command


@pytest.fixture
def evaluate(ward, site, screen):
    def run(*arguments):
        return screen("evaluate", "--reviews", *arguments, cwd=site.root)

    return run


REMARK = "5 of 7 films that this model screened"


def test_the_command_writes_what_it_writes_for_folders(evaluate, site):
    files = ["--json", "r.json", "--predictions", "p.csv", "--html", "r.html"]
    ended = evaluate(*files)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((site.root / "r.json").read_text())
    assert found["confusion"] == {"tn": 1, "fp": 1, "fn": 2, "tp": 1}
    assert found["n"] == 5
    assert (found["indeterminate"], found["reviews"]["reviewed"]) == (1, 6)
    rows = list(csv.DictReader(io.StringIO((site.root / "p.csv").read_text())))
    assert [row["label"] for row in rows].count("PNEUMONIA") == 3
    assert "no random sample" in ended.stderr
    for text in (ended.stderr, (site.root / "r.html").read_text()):
        assert REMARK in text


def test_one_class_alone_is_measured_as_far_as_it_goes(shop, review, site, screen):
    shop.finish(shop.screened(shop.item("a.jpeg")))
    review(1, "agree", "PNEUMONIA")
    ended = screen("evaluate", "--reviews", "--json", "r.json", cwd=site.root)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((site.root / "r.json").read_text())
    assert (found["sensitivity"], found["specificity"], found["auc"]) == (1.0, None, None)


@pytest.mark.parametrize(
    "arguments", [("--reviews", "."), ("--reviews", "--labels", "config.toml"), ()]
)
def test_either_a_folder_or_reviews(site, screen, arguments):
    ended = screen("evaluate", *arguments, cwd=site.root)
    assert ended.returncode == 2
    assert "--reviews" in ended.stderr


def test_a_site_without_reviews_says_so(site, screen):
    ended = screen("evaluate", "--reviews", cwd=site.root)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "no answer has been reviewed" in ended.stderr
