"""Results as a folder of Parquet files: one table, brought up to date by what changed."""

from datetime import timedelta

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from worker.cli.query import _KINDS
from worker.config import Site
from worker.errors import UsageError
from worker.marks import keep_marks
from worker.partitions import export
from worker.store.backup import bring_up_to_date
from worker.store.lists import mark_all_due
from worker.store.queries import result_fields, results
from worker.store.reviews import Review, add_review

pytestmark = pytest.mark.databases


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Four files in a block."""
    for module in ("worker.store.lists", "worker.partitions"):
        monkeypatch.setattr(f"{module}.LIST_FILES", 2)
    monkeypatch.setattr("worker.partitions._LISTS", 2)


@pytest.fixture
def desk(engine, tmp_path, noon):
    site = Site(work=tmp_path / "work", reports=tmp_path / "reports")
    for folder in (site.work, site.reports):
        folder.mkdir()
    keep_marks(site, engine, noon)
    return site


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results"


def screen(shop, count, days=0):
    for _ in range(count):
        item = shop.item()
        sha256 = f"{item.id:064x}"
        shop.finish(shop.screened(item, sha256), now=shop.noon + timedelta(days=days))


def table(folder):
    rows = ds.dataset(folder, partitioning="hive").to_table().to_pylist()
    return sorted((row["file"], row["sha256"]) for row in rows)


def all_results(engine):
    found = [result_fields(each) for each in results(engine)]
    return sorted((each["file"], each["sha256"]) for each in found)


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


@pytest.mark.parametrize("by", ["block", "month"])
def test_the_folder_is_one_table_of_all_results(engine, shop, desk, folder, by):
    screen(shop, 6)
    screen(shop, 5, days=40)
    done = export(engine, desk, folder, _KINDS, by=by)
    assert (done.rows, done.unchanged) == (11, 0)
    assert len(written(folder)) == done.files > 1
    assert table(folder) == all_results(engine)
    one = next(iter(written(folder)))
    assert pq.read_schema(one).names == list(_KINDS)
    assert one.stat().st_mode & 0o777 == 0o640


def test_months_are_partitions_that_programs_know(engine, shop, desk, folder):
    screen(shop, 2)
    screen(shop, 2, days=40)
    export(engine, desk, folder, _KINDS, by="month")
    assert sorted(path.name for path in folder.iterdir()) == ["month=2026-05", "month=2026-06"]
    dataset = ds.dataset(folder, partitioning="hive")
    assert dataset.count_rows(filter=ds.field("month") == "2026-06") == 2


@pytest.mark.parametrize("by", ["block", "month"])
def test_only_blocks_in_which_something_changed_are_written_again(
    engine, shop, desk, folder, by, noon
):
    screen(shop, 9)
    export(engine, desk, folder, _KINDS, by=by)
    before = written(folder)
    assert export(engine, desk, folder, _KINDS, by=by).files == 0
    assert written(folder) == before
    add_review(engine, Review(1, "agree", "PNEUMONIA", "", "Dr. Ada", noon))
    assert (again := export(engine, desk, folder, _KINDS, by=by)).files == 1
    assert again.unchanged == 2
    changed = [path for path, at in written(folder).items() if before[path] != at]
    assert [path.name for path in changed] == ["part-000000.parquet"]
    assert "agree" in pq.read_table(changed[0])["verdict"].to_pylist()


def test_new_results_are_added_to_their_block(engine, shop, desk, folder):
    screen(shop, 5)
    export(engine, desk, folder, _KINDS)
    screen(shop, 4)
    export(engine, desk, folder, _KINDS)
    assert table(folder) == all_results(engine)


def test_after_a_restore_all_is_written_again(engine, shop, desk, folder, noon):
    """Counts of changes go back then, and may be equal to those in a footer again."""
    screen(shop, 5)
    export(engine, desk, folder, _KINDS)
    bring_up_to_date(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE result_lists SET changes = changes - 1"))  # as they were
    assert export(engine, desk, folder, _KINDS).unchanged == 0
    assert export(engine, desk, folder, _KINDS).files == 0


def test_a_backup_that_knows_fewer_results_leaves_none_of_the_others(engine, shop, desk, folder):
    screen(shop, 9)
    export(engine, desk, folder, _KINDS)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM files WHERE id > 3"))
        connection.execute(text("DELETE FROM result_lists WHERE block > 1"))
    bring_up_to_date(engine)
    export(engine, desk, folder, _KINDS)
    assert table(folder) == all_results(engine) != []


def test_pages_that_are_due_anew_do_not_hide_a_change(engine, shop, desk, folder, noon):
    """Counts of changes went back when 'screen report' was called."""
    screen(shop, 3)
    for _ in range(3):
        add_review(engine, Review(1, "unclear", None, "", "Dr. Ada", noon))
    export(engine, desk, folder, _KINDS)
    mark_all_due(engine)
    add_review(engine, Review(1, "agree", "PNEUMONIA", "", "Dr. Ada", noon))
    assert export(engine, desk, folder, _KINDS).files == 1


def test_an_export_that_was_cut_off_goes_on(engine, shop, desk, folder, monkeypatch):
    screen(shop, 9)
    with monkeypatch.context() as disk:
        left = [2]

        def full(*_):
            left[0] -= 1
            if not left[0]:
                raise OSError(28, "No space left on device")

        disk.setattr("worker.parquet.Pieces.write", lambda *_: full())
        with pytest.raises(OSError, match="No space"):
            export(engine, desk, folder, _KINDS)
    for path in written(folder):
        path.unlink()  # the stand-in wrote nothing into it
    export(engine, desk, folder, _KINDS)
    assert table(folder) == all_results(engine)
    assert not list(folder.glob(".screen-*"))


def test_a_month_that_was_half_written_is_written_again(engine, shop, desk, folder):
    screen(shop, 2)
    screen(shop, 1, days=40)
    export(engine, desk, folder, _KINDS, by="month")
    next(folder.glob("month=2026-06/*")).unlink()
    export(engine, desk, folder, _KINDS, by="month")
    assert table(folder) == all_results(engine)


def test_a_folder_of_others_is_left_alone(engine, shop, desk, folder):
    screen(shop, 2)
    export(engine, desk, folder, _KINDS)
    before = written(folder)
    with pytest.raises(UsageError, match="not partitioned so"):
        export(engine, desk, folder, _KINDS, by="month")
    assert written(folder) == before
