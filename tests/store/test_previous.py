"""Films of the same patient that came before are found by one look at an index."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.store.test_views import plans
from worker.records import Decision
from worker.store.previous import MOST, previous_films
from worker.store.queries import stored_screening

pytestmark = pytest.mark.databases

HERS, HIS = "aa" * 16, "bb" * 16


@pytest.fixture
def screen(shop):
    """Screen one film of a patient, a day after the last one; gives its content."""
    numbers = iter(range(1, 1000))

    def one(patient_key=HERS, study_date=None, **changes):
        number = next(numbers)
        content = f"{number:04x}" * 16
        outcome = shop.screened(shop.item(), content, **changes)
        tags = replace(outcome.film.tags, patient_key=patient_key, study_date=study_date)
        film = replace(outcome.film, tags=tags)
        shop.finish(replace(outcome, film=film), now=shop.noon + timedelta(days=number))
        return content

    return one


def test_the_patients_other_films_are_found_and_nobody_elses(engine, screen, shop):
    screen(study_date="2020-01-01", decision=Decision.NORMAL)
    screen(HIS)
    screen(None)
    this = screen(study_date="2024-01-01")
    (found,) = previous_films(engine, HERS, this)
    assert (found.day, found.decision, found.page) == ("2020-01-01", "NORMAL", "films/0001.html")
    assert found.labels == shop.card.labels
    assert previous_films(engine, None, this) == ()


def test_they_are_sorted_by_date_and_those_that_came_last_are_taken(engine, screen):
    for day in range(1, MOST + 4):
        screen(study_date=f"2020-01-{day:02}")
    found = previous_films(engine, HERS, None)
    assert [film.day for film in found] == [f"2020-01-{day:02}" for day in range(13, 3, -1)]
    screen(study_date="1999-12-31")  # an archive: its films come late and are old
    assert [film.day for film in previous_films(engine, HERS, None)][-1] == "1999-12-31"


def test_without_a_study_date_the_day_of_screening_counts(engine, screen, noon):
    screen()
    (found,) = previous_films(engine, HERS, None)
    assert found.day == f"{noon + timedelta(days=1):%Y-%m-%d}"


def test_a_page_rendered_again_names_none_that_came_later(engine, screen):
    first, second, third = screen(), screen(), screen()
    found = {
        content: previous_films(engine, HERS, content, number)
        for number, content in enumerate((first, second, third), start=1)
    }
    assert [len(films) for films in found.values()] == [0, 1, 2]
    assert stored_screening(engine, 2).record.sha256 == second


def test_of_a_removed_report_the_answer_stays_without_its_page(engine, screen):
    screen()
    with engine.begin() as connection:
        connection.execute(text("UPDATE screenings SET report_removed_at = screened_at"))
    (found,) = previous_films(engine, HERS, None)
    assert (found.decision, found.page) == ("PNEUMONIA", None)


def test_what_is_stored_of_a_film_comes_back(engine, screen):
    screen(study_date="2024-01-31")
    tags = stored_screening(engine, 1).tags
    assert (tags.patient_key, tags.study_date) == (HERS, "2024-01-31")


@pytest.mark.databases("sqlite")
def test_an_index_answers_in_its_own_order(engine, screen):
    screen()
    (steps,) = plans(engine, lambda: previous_films(engine, HERS, "cc", 7))
    assert "SEARCH films USING INDEX ix_films_patient_key (patient_key=?)" in steps
    assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]
