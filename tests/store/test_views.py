"""What people find when they query the database, by view or by command."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from worker.records import RECORD_FIELDS, Decision
from worker.store.counts import counts_by_decision, waiting_files_count
from worker.store.failures import resolve
from worker.store.filters import Filter
from worker.store.queries import results
from worker.store.reviews import Review, add_review
from worker.store.runs import runs
from worker.store.work import begin_run, register_model

pytestmark = pytest.mark.databases


@pytest.fixture
def filled(shop, noon):
    """One film of each kind, a minute apart: PNEUMONIA, NORMAL, REFUSED, duplicate, failed."""
    later = (noon + timedelta(minutes=minute) for minute in range(5))
    refused = {"decision": Decision.REFUSED, "probability": 0.4, "reason": "lateral-view"}
    normal = {"decision": Decision.NORMAL, "probability": 0.1}
    shop.finish(shop.screened(shop.item("p.jpg"), "aa" * 32), now=next(later))
    shop.finish(shop.screened(shop.item("n.jpg"), "bb" * 32, **normal), now=next(later))
    shop.finish(shop.screened(shop.item("r.jpg"), "cc" * 32, **refused), now=next(later))
    shop.finish(shop.duplicate(shop.item("d.jpg"), "bb" * 32), now=next(later))
    shop.finish(shop.failed(shop.item("f.jpg"), "dd" * 32), now=next(later))
    shop.item("waiting.jpg")
    return shop


def names(engine, **wanted):
    return [result.record.file for result in results(engine, Filter(**wanted))]


def rows(engine, sql):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(sql)).mappings()]


def test_every_file_that_came_to_an_end_is_one_result_newest_first(filled, engine):
    assert names(engine) == ["f.jpg", "d.jpg", "r.jpg", "n.jpg", "p.jpg"]


def test_the_view_begins_with_the_fields_of_the_record_in_their_order(filled, engine):
    assert tuple(rows(engine, "SELECT * FROM results LIMIT 1")[0])[1:12] == RECORD_FIELDS


def test_a_failure_is_refused_without_a_score_but_with_thresholds_and_model(filled, engine, card):
    failure = next(results(engine, Filter(status="failed")))
    record = failure.record
    assert (record.decision, record.probability, record.guard_score) == ("REFUSED", None, None)
    assert (record.reason, record.message) == ("truncated-file", "ends early")
    assert (record.threshold, record.guard_threshold) == (0.6, 0.5)
    assert (record.model, record.weights_sha256) == (card.name, card.weights.sha256)
    assert failure.page is None


def test_a_duplicate_has_the_answer_and_the_page_of_the_first(filled, engine):
    first, twin = (next(results(engine, Filter(status=s, sha256="bb" * 32)))
                   for s in ("screened", "duplicate"))  # fmt: skip
    assert twin.record.probability == first.record.probability
    assert twin.page == first.page
    assert twin.record.file == "d.jpg"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"decision": "NORMAL"}, ["d.jpg", "n.jpg"]),
        ({"decision": "REFUSED"}, ["f.jpg", "r.jpg"]),
        ({"status": "duplicate"}, ["d.jpg"]),
        ({"reason": "lateral-view"}, ["r.jpg"]),
        ({"min_probability": 0.4}, ["r.jpg", "p.jpg"]),
        ({"max_probability": 0.1}, ["d.jpg", "n.jpg"]),
        ({"sha256": "bb" * 32}, ["d.jpg", "n.jpg"]),
        ({"source": "inbox", "limit": 2}, ["f.jpg", "d.jpg"]),
        ({"source": "/archive"}, []),
        ({"decision": "NORMAL", "status": "screened"}, ["n.jpg"]),
    ],
)
def test_filters_restrict_and_combine(filled, engine, wanted, expected):
    assert names(engine, **wanted) == expected


def test_both_ends_of_a_time_range_are_included(filled, engine, noon):
    minute = timedelta(minutes=1)
    assert names(engine, since=noon + minute, until=noon + 2 * minute) == ["r.jpg", "n.jpg"]


def test_counts_name_every_decision_and_count_duplicates_and_failures_apart(filled, engine):
    assert counts_by_decision(engine) == {
        "PNEUMONIA": 1,
        "NORMAL": 1,
        "INDETERMINATE": 0,
        "REFUSED": 1,
        "duplicate": 1,
        "failed": 1,
    }


def test_the_files_that_still_wait_are_counted(filled, engine):
    assert waiting_files_count(engine, inbox=True) == 1
    assert waiting_files_count(engine, inbox=False) == 0


def test_counts_of_a_run_are_its_own(filled, start_run, engine):
    filled.run_id = start_run()
    filled.finish(filled.screened(filled.item("x.jpg"), "ee" * 32))
    second, first = runs(engine)
    assert sum(second.counts.values()) == 1
    assert sum(first.counts.values()) == 5


def test_counts_are_those_of_the_view(filled, engine):
    counted = rows(
        engine,
        "SELECT CASE status WHEN 'screened' THEN decision ELSE status END AS name, count(*) AS n "
        "FROM results GROUP BY name",
    )
    counts = {name: count for name, count in counts_by_decision(engine).items() if count}
    assert counts == {row["name"]: row["n"] for row in counted}


def test_the_answer_beside_a_file_is_that_of_its_screening_or_failure(filled, engine):
    differing = """
        SELECT files.id FROM files
        LEFT JOIN screenings ON screenings.id = screening_id
        LEFT JOIN failures ON failures.file_id = files.id
        WHERE files.decision IS DISTINCT FROM CASE files.state WHEN 'failed' THEN 'REFUSED'
                                    ELSE screenings.decision END
           OR files.probability IS DISTINCT FROM screenings.probability
           OR files.reason IS DISTINCT FROM coalesce(failures.reason, screenings.reason)"""
    assert rows(engine, differing) == []


def test_a_file_that_waits_again_is_no_result(filled, engine, found):
    files = [found("a.dcm", source="/archive")]
    (item,) = filled.items(*files)
    filled.finish(filled.failed(item))
    resolve(engine, item.id, "retried", filled.noon)
    before = len(names(engine, decision="REFUSED"))
    assert filled.items(*files) == [item]
    assert len(names(engine, decision="REFUSED")) == before - 1
    assert names(engine, source="/archive") == names(engine, reason="a.dcm") == []


MIDNIGHT = datetime(2026, 5, 3, tzinfo=UTC)
QUESTIONS = [
    *({"decision": word} for word in ("PNEUMONIA", "REFUSED")),
    *({"status": word} for word in ("screened", "duplicate", "failed")),
    {"reason": "lateral-view"},
    {"sha256": "bb" * 32},
    {"source": "inbox"},
    {"run": 1},
    *({name: MIDNIGHT} for name in ("since", "until")),
    *({name: 0.9} for name in ("min_probability", "max_probability")),
    {"decision": "PNEUMONIA", "since": MIDNIGHT},
    {"decision": "PNEUMONIA", "min_probability": 0.9},
    {"status": "failed", "since": MIDNIGHT},
    {"source": "inbox", "since": MIDNIGHT},
]


OF_REVIEWS = [
    {"verdict": "disagree"},
    {"verdict": "agree", "decision": "PNEUMONIA"},
    {"verdict": "agree", "since": MIDNIGHT},
]


@pytest.fixture
def reviewed(filled, engine, noon):
    """p.jpg: agree, then disagree; n.jpg and its copy d.jpg: agree; r.jpg: none."""
    pages = {row["page"]: row["id"] for row in rows(engine, "SELECT id, page FROM screenings")}
    for page, verdict in (("aaaa", "agree"), ("aaaa", "disagree"), ("bbbb", "agree")):
        number = pages[f"films/{page}.html"]
        add_review(engine, Review(number, verdict, None, "", "Dr. Ada", noon))
    return filled


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"verdict": "disagree"}, ["p.jpg"]),
        ({"verdict": "agree"}, ["d.jpg", "n.jpg"]),
        ({"verdict": "unclear"}, []),
        ({"reviewed": True}, ["d.jpg", "n.jpg", "p.jpg"]),
        ({"reviewed": False}, ["r.jpg"]),
        ({"reviewed": False, "decision": "NORMAL"}, []),
        ({"reviewed": True, "decision": "NORMAL", "limit": 1}, ["d.jpg"]),
    ],
)
def test_the_newest_review_of_an_answer_is_asked_for(reviewed, engine, wanted, expected):
    assert names(engine, **wanted) == expected


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("wanted", [*QUESTIONS, *OF_REVIEWS], ids="+".join)
def test_every_question_is_answered_by_an_index(filled, engine, wanted):
    """A million results were read through, row by row; SQLite's plan says what is read."""
    for plan in plans(engine, lambda: names(engine, **wanted, limit=50)):
        assert not [step for step in plan if step.startswith("SCAN")], plan


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize("wanted", QUESTIONS, ids="+".join)
def test_a_question_for_the_newest_sorts_only_what_matched_it(filled, engine, wanted):
    ids, *_ = plans(engine, lambda: names(engine, **wanted, limit=50))
    if {"min_probability", "run"} & wanted.keys():
        assert "COVERING" in ids[0], ids
    elif "max_probability" not in wanted:
        assert len(ids) == 1, ids


@pytest.mark.databases("sqlite")
def test_without_a_question_the_newest_are_read_and_no_more(filled, engine):
    ids, *_ = plans(engine, lambda: names(engine, limit=50))
    assert ids == ["SCAN files"]  # in the order of its key, from the end: nothing is sorted


@pytest.mark.databases("sqlite")
def test_what_readers_reviewed_is_found_from_the_reviews(reviewed, engine):
    """There are few of them: all are read, by their index, and no other file."""
    ids, *_ = plans(engine, lambda: names(engine, reviewed=True, limit=50))
    scanned = [step for step in ids if step.startswith("SCAN")]
    assert scanned == ["SCAN reviews USING COVERING INDEX ix_reviews_screening_id_id"]


@pytest.mark.databases("sqlite")
def test_what_no_reader_reviewed_is_read_from_the_newest_on(reviewed, engine):
    ids, *_ = plans(engine, lambda: names(engine, reviewed=False, limit=50))
    assert ids[0] == "SCAN files"
    assert all("SCAN" not in step and "TEMP B-TREE" not in step for step in ids[1:]), ids


def plans(engine, ask):
    """How SQLite answers each statement that `ask` sends, step by step."""
    sent = []

    def note(_connection, _cursor, statement, parameters, *_rest):
        sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        return [
            [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {each}", values)]
            for each, values in sent
            if each.startswith("SELECT")
        ]


def test_latest_results_have_one_row_per_content_and_no_failures(filled, engine):
    found = rows(engine, "SELECT sha256, decision FROM latest_results ORDER BY sha256")
    assert [row["sha256"] for row in found] == ["aa" * 32, "bb" * 32, "cc" * 32]


def test_latest_results_give_the_newest_screening_of_a_film(filled, engine, new_card, noon):
    newer = new_card(name="newer")
    filled.model_id = register_model(engine, newer, "2", noon)
    answer = {"decision": Decision.INDETERMINATE, "probability": 0.55}
    filled.finish(filled.screened(filled.item("again.jpg"), "aa" * 32, **answer))
    found = rows(engine, f"SELECT * FROM latest_results WHERE sha256 = '{'aa' * 32}'")
    assert [(row["decision"], row["model"]) for row in found] == [("INDETERMINATE", "newer")]
    assert len(names(engine, sha256="aa" * 32)) == 2  # `results` keeps both files


def test_latest_results_say_what_the_file_said_of_its_film(filled, engine):
    (row,) = rows(engine, "SELECT * FROM latest_results WHERE decision = 'PNEUMONIA'")
    assert (row["format"], row["rows"], row["columns"]) == ("DICOM", 20, 30)
    assert (row["modality"], row["patient_age_years"]) == ("DX", 3.0)


def test_results_of_several_models_come_with_the_labels_of_each(filled, engine, new_card, noon):
    tb = new_card(name="tb", labels=("CLEAR", "TUBERCULOSIS"))
    filled.model_id = register_model(engine, tb, "tb", noon)
    filled.run_id = begin_run(
        engine,
        kind="watch",
        source="inbox",
        model_id=filled.model_id,
        device="cpu",
        precision="float32",
        now=noon,
    )
    filled.finish(filled.screened(filled.item("tb.jpg"), "ff" * 32, decision="TUBERCULOSIS"))
    labels = {result.record.file: result.labels for result in results(engine)}
    assert labels["tb.jpg"] == ("CLEAR", "TUBERCULOSIS")
    assert labels["p.jpg"] == labels["f.jpg"] == ("NORMAL", "PNEUMONIA")
    assert names(engine, decision="TUBERCULOSIS") == ["tb.jpg"]
    shared = ["INDETERMINATE", "REFUSED", "duplicate", "failed"]
    both = ["PNEUMONIA", "TUBERCULOSIS", "NORMAL", "CLEAR", *shared]
    assert list(counts_by_decision(engine)) == both
    assert list(counts_by_decision(engine, filled.run_id)) == ["TUBERCULOSIS", "CLEAR", *shared]
