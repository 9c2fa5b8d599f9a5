"""Readers' reviews: only ever added to, the newest counts, pages that show them are due."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from worker.store import queries
from worker.store.lists import Written as WrittenList
from worker.store.lists import keep_written, lists
from worker.store.reviews import Review, add_review, finding_of, latest_reviews, reviews_of

pytestmark = pytest.mark.databases

LABELS = ("NORMAL", "PNEUMONIA")


@pytest.fixture
def screening(shop, engine):
    shop.finish(shop.screened(shop.item("film.jpg")))
    ((screening, *_),) = queries.screening_ids(engine)
    return screening


@pytest.fixture
def review(screening, noon):
    def make(verdict="agree", finding="PNEUMONIA", note="", minutes=0):
        return Review(
            screening, verdict, finding, note, "Dr. Ada", noon + timedelta(minutes=minutes)
        )

    return make


def test_the_newest_review_counts_and_the_others_stay(engine, screening, review):
    first, second = review(), review("disagree", "NORMAL", "old scar", minutes=5)
    add_review(engine, first)
    add_review(engine, second)
    assert reviews_of(engine, screening) == [second, first]
    assert list(latest_reviews(engine)) == [second]
    (result,) = queries.results(engine)
    said = (result.verdict, result.finding, result.review_note, result.reviewer)
    assert said == ("disagree", "NORMAL", "old scar", "Dr. Ada")
    assert result.reviewed_at == second.reviewed_at


def test_without_a_review_results_say_nothing(engine, screening):
    (result,) = queries.results(engine)
    assert (result.verdict, result.reviewed_at) == (None, None)


def test_latest_results_carry_the_newest_review(engine, review):
    add_review(engine, review("unclear", None))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT verdict, finding, reviewer FROM latest_results"))
        assert rows.all() == [("unclear", None, "Dr. Ada")]


def test_a_review_makes_the_lists_that_show_it_due(engine, review):
    (before,) = lists(engine)
    keep_written(engine, [WrittenList(before.block, before.changes, 1, None, None)])
    assert not any(each.due for each in lists(engine))
    add_review(engine, review())
    assert all(each.due for each in lists(engine))


def test_another_word_than_the_three_is_refused(engine, review):
    with pytest.raises(IntegrityError):
        add_review(engine, review("perhaps"))
    assert list(latest_reviews(engine)) == []


@pytest.mark.parametrize(
    ("decision", "verdict", "seen", "finding"),
    [
        ("PNEUMONIA", "agree", None, "PNEUMONIA"),
        ("PNEUMONIA", "disagree", None, "NORMAL"),
        ("NORMAL", "disagree", None, "PNEUMONIA"),
        ("NORMAL", "unclear", None, None),
        ("PNEUMONIA", "agree", "PNEUMONIA", "PNEUMONIA"),
        ("INDETERMINATE", "agree", None, None),
        ("INDETERMINATE", "agree", "NORMAL", "NORMAL"),
        ("REFUSED", "disagree", "PNEUMONIA", "PNEUMONIA"),
        ("REFUSED", "unclear", None, None),
    ],
)
def test_the_finding_follows_from_answer_and_verdict(decision, verdict, seen, finding):
    assert finding_of(decision, verdict, LABELS, seen) == finding


@pytest.mark.parametrize(
    ("decision", "verdict", "seen"),
    [
        ("PNEUMONIA", "agree", "NORMAL"),
        ("NORMAL", "unclear", "NORMAL"),
        ("INDETERMINATE", "unclear", "NORMAL"),
        ("REFUSED", "agree", "TUBERCULOSIS"),
    ],
)
def test_a_finding_that_contradicts_the_verdict_is_refused(decision, verdict, seen):
    with pytest.raises(ValueError, match=seen):
        finding_of(decision, verdict, LABELS, seen)
