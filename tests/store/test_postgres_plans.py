"""PostgreSQL answers the questions of a large site from its indexes: it reads what is asked for.

Its planner goes by statistics, so there are many rows, and what it really read is counted.
"""

from datetime import timedelta

import pytest
from sqlalchemy import event, text

from worker.config import Database
from worker.store.browse import browse, newest_results, to_review, unfinished_files
from worker.store.database import open_database
from worker.store.filters import Filter
from worker.store.outcomes import screened_contents
from worker.store.queries import results
from worker.store.work import begin_run, register_model, waiting_files
from worker.store.worklist import most_urgent

pytestmark = pytest.mark.databases("postgresql")

FILES = 40_000
OVERHEAD = 2_000  # rows that a question of some 50 answers may read beside those that match

# One in 20 is suspicious, in 50 undecided, in 100 refused, in 500 failed; one in 40 is a copy; the
# newest 10 wait. A tenth of the results is of this run, a hundredth of another archive.
FILL = f"""
INSERT INTO films (id, sha256, format, rows, columns, notes, first_seen_at)
SELECT i, lpad(to_hex(i), 64, '0'), 'PNG', 9, 9, '[]', :noon FROM generate_series(1, {FILES}) AS i;
INSERT INTO screenings (id, film_id, model_id, run_id, decision, probability, threshold,
    guard_score, guard_threshold, message, evidence, evidence_rows, evidence_columns, picture, page,
    screened_at)
SELECT i, i, 1, 1 + i % 2, CASE WHEN i % 100 = 0 THEN 'REFUSED' WHEN i % 50 = 1 THEN 'INDETERMINATE'
    WHEN i % 20 = 3 THEN 'PNEUMONIA' ELSE 'NORMAL' END, (i * 7919 % 10000) / 10000.0, 0.5, 0, 1, '',
    '', 0, 0, 'p', 'p', :noon + i * interval '1 second' FROM generate_series(1, {FILES}) AS i;
INSERT INTO files (id, run_id, model_id, source, file, path, size, mtime_ns, claim, state, sha256,
    attempts, strikes, worker_deaths, screening_id, recorded_at, finished_at, decision, probability,
    reason)
SELECT i, CASE WHEN i % 10 = 0 THEN 1 ELSE 2 END, 1,
    CASE WHEN i % 100 = 7 THEN '/archive' ELSE 'inbox' END, i || '.png', CAST(i || '.png' AS bytea),
    1, 1, CAST(i AS text),
    CASE WHEN i % 500 = 0 THEN 'failed' WHEN i > {FILES - 10} THEN 'waiting'
        WHEN i % 40 = 5 THEN 'duplicate' ELSE 'screened' END,
    sha256, 1, 0, 0, CASE WHEN i % 500 <> 0 AND i <= {FILES - 10} THEN i END, :noon,
    CASE WHEN i <= {FILES - 10} THEN screened_at END,
    CASE WHEN i % 500 = 0 THEN 'REFUSED' WHEN i <= {FILES - 10} THEN screenings.decision END,
    CASE WHEN i % 500 <> 0 AND i <= {FILES - 10} THEN probability END,
    CASE WHEN i % 500 = 0 THEN 'truncated-file' WHEN i % 100 = 0 THEN 'lateral-view' END
FROM generate_series(1, {FILES}) AS i JOIN screenings ON screenings.id = i
    JOIN films ON films.id = i;
INSERT INTO failures (file_id, run_id, reason, message, failed_at)
SELECT id, run_id, 'truncated-file', '', :noon FROM files WHERE state = 'failed';
INSERT INTO reviews (screening_id, verdict, note, reviewer, reviewed_at)
SELECT id, CASE WHEN id % 200 = 3 THEN 'disagree' ELSE 'agree' END, '', 'Dr. Ada', :noon
FROM screenings WHERE id % 100 = 3
"""


@pytest.fixture(scope="module")
def large(postgres):
    """Settings of a large site's database."""
    from tests.conftest import NOON
    from tests.standin import make_card

    with postgres.database(migrated=True) as url:
        settings = Database(url=url)
        engine = open_database(settings)
        model = register_model(engine, make_card(), "1/square96", NOON)
        run = {"kind": "watch", "source": "inbox", "device": "cpu", "precision": "float32"}
        for _ in range(2):
            begin_run(engine, model_id=model, now=NOON, **run)
        with engine.begin() as connection:
            for statement in FILL.split(";"):
                connection.execute(text(statement), {"noon": NOON.replace(tzinfo=None)})
            connection.execute(text("ANALYZE"))
        engine.dispose()
        yield settings


@pytest.fixture
def engine(large):
    engine = open_database(large, read_only=True)
    yield engine
    engine.dispose()


def rows_read(engine, ask):
    """How many rows of tables and indexes the questions that `ask` sends make the server read."""
    sent = []

    def note(_connection, _cursor, statement, parameters, *_rest):
        sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    total = 0
    for statement, parameters in sent:
        if statement.startswith("SELECT"):
            with engine.connect() as connection:
                explained = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}"
                [[[plan]]] = connection.exec_driver_sql(explained, parameters)
            total += _read(plan["Plan"])
    return total


def _read(node):
    below = sum(map(_read, node.get("Plans", ())))
    if "Scan" not in node["Node Type"] or node["Node Type"] == "Subquery Scan":
        return below
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return below + (node["Actual Rows"] + removed) * node["Actual Loops"]


def late(noon):
    return noon + timedelta(seconds=FILES - 300)


QUESTIONS = [
    {},
    *({"decision": word} for word in ("PNEUMONIA", "REFUSED", "INDETERMINATE")),
    *({"status": word} for word in ("screened", "duplicate", "failed")),
    {"reason": "lateral-view"},
    {"sha256": f"{77:064x}"},
    {"source": "/archive"},
    {"run": 1},
    {"min_probability": 0.995},
    {"max_probability": 0.005},
    {"decision": "PNEUMONIA", "min_probability": 0.99},
    {"verdict": "disagree"},
    {"reviewed": False},
]


@pytest.mark.parametrize("wanted", QUESTIONS, ids="+".join)
def test_a_question_reads_what_it_asks_for(engine, wanted):
    assert rows_read(engine, lambda: list(results(engine, Filter(**wanted, limit=50)))) < OVERHEAD


def test_a_question_for_reviewed_films_reads_the_reviews_or_the_newest_films(engine):
    """Whichever is less, as the planner sees it."""
    wanted = Filter(reviewed=True, limit=50)
    assert rows_read(engine, lambda: list(results(engine, wanted))) < FILES / 4


@pytest.mark.parametrize("wanted", [{}, {"decision": "PNEUMONIA"}, {"source": "/archive"}])
def test_a_question_for_moments_reads_what_it_asks_for(engine, wanted, noon):
    asked = Filter(**wanted, since=late(noon), limit=50)
    assert rows_read(engine, lambda: list(results(engine, asked))) < OVERHEAD


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: newest_results(engine, 8),
        lambda engine: unfinished_files(engine, 8, 10_000),
        lambda engine: to_review(engine, "PNEUMONIA", 8, 4),
        lambda engine: waiting_files(engine, "inbox"),
        lambda engine: screened_contents(engine, [f"{i:064x}" for i in range(32)], 1),
        lambda engine: browse(engine, Filter(decision="PNEUMONIA", limit=20), sort="score"),
        lambda engine: list(most_urgent(engine, dict.fromkeys(_SHARES, 50))),
    ],
    ids=["newest", "unfinished", "to-review", "waiting", "contents", "by-score", "urgent"],
)
def test_what_pages_ask_again_and_again_reads_little(engine, ask):
    assert rows_read(engine, lambda: ask(engine)) < 3 * OVERHEAD


_SHARES = ("positive", "negative", "indeterminate", "refused", "failed")
