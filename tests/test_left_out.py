"""Reports only for films that need eyes: absent on purpose, known as absent, made later."""

import shutil

import pytest
from sqlalchemy import text

from tests.conftest import sha256
from tests.store.test_views import plans
from worker.backfill import backfill
from worker.intake.archive import Folder
from worker.marks import require_this_site
from worker.pipeline import Pipeline
from worker.records import Decision, Reason
from worker.recovery import tidy
from worker.remake import make_reports
from worker.report.eyes import gets_report, needs_eyes
from worker.report.site import broken_pages, write_worklist
from worker.site import hold_site
from worker.store.archives import waiting_after, waiting_count
from worker.store.leftout import left_out, left_out_count
from worker.store.outcomes import Duplicate, Screened
from worker.store.queries import pages, results
from worker.store.removals import reports_before
from worker.store.work import begin_run, register_model

LABELS = ("NORMAL", "PNEUMONIA")


@pytest.mark.parametrize(
    ("decision", "reason", "needed"),
    [
        (Decision.PNEUMONIA, None, True),
        (Decision.INDETERMINATE, None, True),
        (Decision.NORMAL, None, False),
        (Decision.NORMAL, Reason.OUTSIDE_VALIDATED_POPULATION, False),
        (Decision.REFUSED, Reason.NOT_A_CHEST_RADIOGRAPH, True),
        (Decision.REFUSED, Reason.POLARITY_UNSURE, True),
        (Decision.REFUSED, Reason.OUTSIDE_VALIDATED_POPULATION, True),
        (Decision.REFUSED, Reason.LATERAL_VIEW, False),
        (Decision.REFUSED, Reason.WRONG_BODY_PART, False),
        (Decision.REFUSED, Reason.VETERINARY, False),
        (Decision.REFUSED, Reason.BLANK, False),
    ],
)
def test_eyes_are_for_what_is_positive_undecided_or_unjudged(decision, reason, needed):
    assert needs_eyes(decision, reason, LABELS) is needed
    assert gets_report("positive", decision, reason, LABELS) is needed
    assert gets_report("all", decision, reason, LABELS)
    assert not gets_report("none", decision, reason, LABELS)


class Ward:
    """A site and what backfills of films, positive and not, made of it."""

    def __init__(self, config, engine, screener, noon):
        self.config, self.engine, self.screener, self.noon = config, engine, screener, noon
        self.outcomes = []

    def run(self, archive, reports, **options):
        model_id = register_model(
            self.engine, self.screener.card, self.screener.preprocessing, self.noon
        )
        run_id = begin_run(
            self.engine,
            kind="backfill",
            source="archive",
            model_id=model_id,
            device="cpu",
            precision="float32",
            now=self.noon,
        )
        self.outcomes = []
        backfill(
            self.engine,
            Pipeline(
                self.engine,
                self.screener,
                self.config,
                run_id=run_id,
                model_id=model_id,
                check=lambda: None,
                reports=reports,
                clock=lambda: self.noon,
            ),
            [Folder(archive)],
            run_id=run_id,
            model_id=model_id,
            batch_size=4,
            limit=None,
            advance=lambda _files, outcomes: self.outcomes.extend(outcomes),
            **options,
        )

    def there(self):
        site = self.config.site
        return {p.name for f in ("films", "pictures") for p in (site.reports / f).glob("*")}


@pytest.fixture
def ward(site, screener, noon):
    with hold_site(site) as engine:
        yield Ward(site, engine, screener, noon)


def is_positive(content):
    return int(sha256(content)[:2], 16) / 255 >= 0.6


@pytest.fixture
def archive(tmp_path):
    """Eight contents of which some are positive for the stand-in."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(b"%d" % number)
    kinds = {is_positive(path.read_bytes()) for path in folder.iterdir()}
    assert kinds == {True, False}
    return folder


def test_only_films_that_need_eyes_get_page_and_picture(ward, archive):
    ward.run(archive, "positive")
    positive = {
        sha256(path.read_bytes())[:24]
        for path in archive.iterdir()
        if is_positive(path.read_bytes())
    }
    assert {name.partition("-")[0] for name in ward.there()} == positive
    assert len(ward.there()) == 2 * len(positive)
    assert all(isinstance(each, Screened) for each in ward.outcomes)
    assert len(ward.outcomes) == 8


def test_a_page_that_was_left_out_is_neither_mended_nor_listed_nor_retained(ward, archive):
    ward.run(archive, "none")
    assert broken_pages(ward.config.site, ward.engine) == []
    tidy(ward.config.site, ward.engine)
    assert ward.there() == set()
    found = list(results(ward.engine))
    assert [each.page for each in found] == [None] * 8
    assert all(each.report_left_out for each in found)
    assert reports_before(ward.engine, ward.noon.replace(year=2099), 10) == []
    html = write_worklist(ward.config.site, ward.engine, ward.noon).read_text()
    assert "No report was made" in html
    assert 'href="films/' not in html


def test_the_same_content_is_a_duplicate_while_no_report_is_wanted_of_it(ward, archive, tmp_path):
    ward.run(archive, "positive")
    shutil.copytree(archive, tmp_path / "copy")
    ward.run(tmp_path / "copy", "positive")
    assert {type(each) for each in ward.outcomes} == {Duplicate}


def test_the_same_content_gets_its_report_where_all_do_and_keeps_its_answer(
    ward, archive, tmp_path
):
    ward.run(archive, "none")
    shutil.copytree(archive, tmp_path / "copy")
    ward.run(tmp_path / "copy", "all")
    assert len(ward.there()) == 16
    assert left_out_count(ward.engine) == 0
    with ward.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM screenings")).scalar() == 8


def test_reports_that_were_left_out_are_made_later(ward, sample_films, tmp_path, monkeypatch):
    """From real films, decoded again; what is gone or was changed is said."""
    archive = tmp_path / "films"
    shutil.copytree(sample_films / "NORMAL", archive)
    films = sorted(archive.iterdir())[:3]
    for path in sorted(archive.iterdir())[3:]:
        path.unlink()
    ward.run(archive, "none")
    films[1].write_bytes(b"another film")
    films[2].unlink()
    check = require_this_site(ward.config.site, ward.engine)
    missing = list(make_reports(ward.config, ward.engine, left_out(ward.engine), check))
    assert sorted(each.file for each in missing) == [str(path) for path in films[1:]]
    assert len(ward.there()) == 2
    assert left_out_count(ward.engine) == 2
    assert broken_pages(ward.config.site, ward.engine) == []
    assert sum(each.page is not None for each in results(ward.engine)) == 1


def test_a_start_reads_only_the_screenings_that_have_a_report(ward):
    """Ten million films without one were read through at every start."""
    for asked in (lambda: list(pages(ward.engine)), lambda: list(left_out(ward.engine))):
        (plan,) = plans(ward.engine, asked)
        assert len(plan) == 1
        assert "INDEX ix_screenings_report_left_out" in plan[0]


def test_what_waits_in_an_archive_is_found_by_its_index(ward):
    for asked in (
        lambda: waiting_after(ward.engine, "/archive", 1, 0, 10),
        lambda: waiting_count(ward.engine, "/archive", 1),
    ):
        (plan,) = plans(ward.engine, asked)
        assert len(plan) == 1
        assert "ix_files_manifest" in plan[0]
