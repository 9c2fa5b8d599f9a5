"""What the database is asked does not depend on how many films a batch has."""

import pytest
from sqlalchemy import event, text

from worker.store.archives import begin_listing, record_listed
from worker.store.outcomes import screened_contents
from worker.store.work import begin_attempt, begin_recovery, finished_files, record

pytestmark = pytest.mark.databases


@pytest.fixture
def statements(engine):
    """The statements that were sent so far."""
    sent = []
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    return sent


def batch(shop, start, count):
    """Of every four files one is screened, two are copies of it, and one failed."""
    items = [shop.item(f"{number}.jpg") for number in range(start, start + count)]
    kinds = (shop.screened, shop.duplicate, shop.failed, shop.duplicate)
    return [
        kinds[index % 4](item, f"{start + index // 4:064x}") for index, item in enumerate(items)
    ]


def test_a_batch_is_finished_in_as_many_statements_whatever_its_size(shop, statements):
    sizes = {}
    for start, count in ((1000, 4), (2000, 64)):
        outcomes = batch(shop, start, count)
        statements.clear()
        shop.finish(*outcomes)
        sizes[count] = list(map(str.split, statements))
    assert [words[:2] for words in sizes[64]] == [words[:2] for words in sizes[4]]
    assert len(sizes[64]) <= 8


def test_removed_reports_given_again_cost_no_more(shop, engine, statements):
    counts = []
    for start, count in ((1000, 4), (2000, 64)):
        contents = [f"{number:064x}" for number in range(start, start + count)]
        shop.finish(*(shop.screened(shop.item(), content) for content in contents))
        with engine.begin() as connection:
            connection.execute(text("UPDATE screenings SET report_removed_at = screened_at"))
        again = [shop.screened(shop.item(), content) for content in contents]
        statements.clear()
        shop.finish(*again)
        counts.append(len(statements))
    assert counts[0] == counts[1]


def test_an_attempt_and_a_look_for_known_contents_are_one_statement_each(
    shop, engine, statements, run_id, model_id
):
    items = [shop.item() for _ in range(64)]
    for some in (items[:4], items):
        statements.clear()
        begin_attempt(engine, some, run_id, model_id)
        screened_contents(engine, [f"{item.id:064x}" for item in some], model_id)
        begin_recovery(engine, crashed=False)
        finished_files(engine, [item.id for item in some])
        words = [sent.split()[0] for sent in statements if sent.split()[0] != "BEGIN"]
        assert words == ["UPDATE", "SELECT", "UPDATE", "SELECT"]


def test_a_finished_archive_recorded_again_writes_nothing(shop, engine, found, statements, noon):
    files = [found(f"{number}.dcm", source="/archive") for number in range(64)]
    shop.finish(*(shop.screened(item, f"{item.id:064x}") for item in shop.items(*files)))
    for some in (files[:4], files):
        statements.clear()
        assert record(engine, some, shop.run_id, shop.model_id, noon) == []
        assert [sent.split()[0] for sent in statements if sent[:5] != "BEGIN"] == ["SELECT"]


def test_new_files_of_an_archive_are_recorded_in_three_statements(shop, found, statements):
    for archive, count in (("/a", 4), ("/b", 64)):
        files = [found(f"{number}.dcm", source=archive) for number in range(count)]
        statements.clear()
        assert len(shop.items(*files)) == count
        assert [sent.split()[0] for sent in statements if sent[:5] != "BEGIN"] == [
            "SELECT", "INSERT", "SELECT",
        ]  # fmt: skip


def test_new_files_of_a_list_are_not_looked_up_again(shop, engine, found, statements, noon):
    """On PostgreSQL nobody counted how many were new, and each piece was looked up twice."""
    files = [found(f"{number}.dcm", source="/archive") for number in range(8)]
    listing = begin_listing(engine, "/archive", shop.model_id, noon)
    ids = {"run_id": shop.run_id, "model_id": shop.model_id, "now": noon}
    statements.clear()
    assert record_listed(engine, listing.id, files, **ids) == 0
    words = [sent.split()[0] for sent in statements if sent.split()[0] != "BEGIN"]
    assert words == ["SELECT", "INSERT", "UPDATE"]
