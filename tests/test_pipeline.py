"""The protocol of a batch: one screening per content, artefacts before the commit, all or none."""

from concurrent.futures import Future

import pytest
from sqlalchemy import text

from worker import pipeline as pipeline_module
from worker.errors import CorruptFile, DecoderCrashed, DecoderTimeout, DecoderUnavailable
from worker.intake.found import Found
from worker.pipeline import Pipeline
from worker.site import hold_site
from worker.store.outcomes import Duplicate, Failed, Screened
from worker.store.work import begin_recovery, begin_run, record, register_model, waiting_files

pytestmark = pytest.mark.databases


class Bench:
    """A site with a pipeline, and films that lie anywhere."""

    def __init__(self, config, engine, screener, noon, folder):
        self.config, self.engine, self.screener, self.noon = config, engine, screener, noon
        self.folder = folder
        self.new_run()

    def new_run(self):
        """Another run with a pipeline of its own, as after a new start of the worker."""
        self.model_id = register_model(
            self.engine, self.screener.card, self.screener.preprocessing, self.noon
        )
        self.run_id = begin_run(
            self.engine,
            kind="watch",
            source="inbox",
            model_id=self.model_id,
            device="cpu",
            precision="float32",
            now=self.noon,
        )
        self.pipeline = Pipeline(
            self.engine,
            self.screener,
            self.config,
            run_id=self.run_id,
            model_id=self.model_id,
            check=lambda: None,
            clock=lambda: self.noon,
        )

    def items(self, **films):
        """Record films: name → content."""
        found = []
        for name, content in films.items():
            path = self.folder / f"{name}.jpg"
            path.write_bytes(content)
            found.append(Found("inbox", path.name, path, len(content), 1, claim=name))
        return record(self.engine, found, self.run_id, self.model_id, self.noon)

    def screen(self, items):
        return self.pipeline.finish(self.pipeline.start(items))

    def column(self, sql):
        with self.engine.connect() as connection:
            return [row[0] for row in connection.execute(text(sql))]

    def states(self):
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT file, state FROM files ORDER BY id"))
            return {row.file.removesuffix(".jpg"): row.state for row in rows}


@pytest.fixture
def bench(site, screener, noon, tmp_path):
    with hold_site(site) as engine:
        folder = tmp_path / "films"
        folder.mkdir()
        yield Bench(site, engine, screener, noon, folder)


def kinds(outcomes):
    return [type(outcome) for outcome in outcomes]


def test_a_batch_is_screened_in_the_order_of_its_films(bench):
    outcomes = bench.screen(bench.items(a=b"1", b=b"2", c=b"3"))
    assert kinds(outcomes) == [Screened] * 3
    assert [outcome.record.file for outcome in outcomes] == ["a.jpg", "b.jpg", "c.jpg"]


def test_twins_within_a_batch_are_screened_once(bench):
    outcomes = bench.screen(bench.items(a=b"same", b=b"other", c=b"same"))
    assert kinds(outcomes) == [Screened, Screened, Duplicate]
    assert bench.screener.decoded == ["a.jpg", "b.jpg"]


def test_twins_in_two_batches_under_way_are_screened_once(bench):
    first = bench.pipeline.start(bench.items(a=b"same"))
    second = bench.pipeline.start(bench.items(b=b"same"))
    assert kinds(bench.pipeline.finish(first)) == [Screened]
    assert kinds(bench.pipeline.finish(second)) == [Duplicate]
    assert bench.screener.decoded == ["a.jpg"]


def test_twins_in_two_runs_are_screened_once(bench):
    bench.screen(bench.items(a=b"same"))
    bench.new_run()
    assert kinds(bench.screen(bench.items(b=b"same"))) == [Duplicate]
    assert bench.screener.decoded == ["a.jpg"]


def test_a_duplicate_shares_screening_and_page_with_the_first(bench):
    bench.screen(bench.items(a=b"same", b=b"same"))
    assert bench.column("SELECT count(DISTINCT page) FROM results") == [1]
    assert bench.column("SELECT count(DISTINCT screening_id) FROM files") == [1]


def test_the_twin_of_a_film_whose_batch_was_abandoned_is_decoded_itself(bench):
    abandoned = bench.pipeline.start(bench.items(a=b"same"))
    second = bench.pipeline.start(bench.items(b=b"same"))
    bench.pipeline.abandon(abandoned)
    assert kinds(bench.pipeline.finish(second)) == [Screened]


def test_twins_that_cannot_be_decoded_fail_both(bench):
    bench.screener.errors[b"bad"] = [CorruptFile("broken")]
    outcomes = bench.screen(bench.items(a=b"bad", b=b"bad"))
    assert kinds(outcomes) == [Failed, Failed]
    assert len(bench.screener.decoded) == 1


def test_another_model_screens_a_known_film_again(bench, new_card, new_screener):
    bench.screen(bench.items(a=b"same"))
    bench.screener = new_screener(new_card())
    bench.screener.preprocessing = "2/other"
    bench.new_run()
    assert kinds(bench.screen(bench.items(b=b"same"))) == [Screened]


@pytest.mark.parametrize("error", [DecoderCrashed, DecoderTimeout])
def test_a_film_that_takes_the_decoder_down_three_times_is_quarantined(bench, error):
    bench.screener.errors[b"bad"] = [error("died")]
    (outcome,) = bench.screen(bench.items(a=b"bad"))
    assert outcome.error.slug == "quarantined"
    assert len(bench.screener.decoded) == 3
    assert bench.column("SELECT strikes FROM files") == [3]


def test_strikes_of_earlier_runs_count(bench):
    (item,) = bench.items(a=b"bad")
    bench.screener.errors[b"bad"] = [DecoderCrashed("died"), DecoderCrashed("died"), Killed()]
    with pytest.raises(Killed):
        bench.screen([item])
    begin_recovery(bench.engine, crashed=False)
    bench.new_run()
    bench.screener.errors[b"bad"] = [DecoderCrashed("died")]
    (outcome,) = bench.screen(waiting_files(bench.engine, "inbox"))
    assert outcome.error.slug == "quarantined"
    assert bench.column("SELECT strikes FROM files") == [3]


def test_a_film_that_decodes_at_the_second_try_is_screened(bench):
    bench.screener.errors[b"flaky"] = [DecoderCrashed("died"), None]
    (outcome,) = bench.screen(bench.items(a=b"flaky"))
    assert isinstance(outcome, Screened)
    assert bench.column("SELECT strikes FROM files") == [1]


def test_a_broken_film_is_no_strike_and_not_tried_again(bench):
    bench.screener.errors[b"bad"] = [CorruptFile("broken")]
    bench.screen(bench.items(a=b"bad"))
    assert len(bench.screener.decoded) == 1
    assert bench.column("SELECT strikes FROM files") == [0]


def test_the_failure_of_one_film_does_not_stop_the_others(bench):
    bench.screener.errors = {b"bad": [CorruptFile("broken")], b"bomb": [DecoderCrashed("died")]}
    outcomes = bench.screen(bench.items(a=b"1", b=b"bad", c=b"bomb", d=b"2"))
    assert kinds(outcomes) == [Screened, Failed, Failed, Screened]
    assert [o.error.slug for o in outcomes if isinstance(o, Failed)] == [
        "corrupt-file",
        "quarantined",
    ]


def test_a_film_that_is_gone_is_lost_and_the_others_go_on(bench):
    lost, kept = bench.items(a=b"1", b=b"2")
    lost.found.path.unlink()
    outcomes = bench.screen([lost, kept])
    assert kinds(outcomes) == [Failed, Screened]
    assert outcomes[0].error.slug == "lost-file"


def test_a_film_beyond_the_limit_is_not_even_read(bench, monkeypatch):
    (item,) = bench.items(a=b"1")
    with item.found.path.open("r+b") as sparse:
        sparse.truncate((bench.config.decode.max_file_mb << 20) + 1)
    (outcome,) = bench.screen([item])
    assert (outcome.error.slug, outcome.sha256) == ("too-large", None)


def test_an_attempt_is_counted_before_a_byte_is_decoded(bench, monkeypatch):
    items = bench.items(a=b"1")
    attempts = []
    decode = bench.screener.examine

    def watched(path):
        attempts.extend(bench.column("SELECT attempts FROM files"))
        return decode(path)

    monkeypatch.setattr(bench.screener, "examine", watched)
    bench.screen(items)
    assert attempts == [1]


def test_a_film_that_was_in_hand_at_five_crashes_of_the_worker_is_quarantined(bench):
    bench.items(a=b"1")
    for _ in range(5):
        bench.pipeline.start(waiting_files(bench.engine, "inbox"))
        begin_recovery(bench.engine, crashed=True)
    (outcome,) = bench.screen(waiting_files(bench.engine, "inbox"))
    assert outcome.error.slug == "quarantined"
    assert "crashed 5 times" in str(outcome.error)


def test_kills_of_the_worker_never_blame_a_film(bench):
    """Five kills of an operator once quarantined whatever was in hand."""
    bench.items(a=b"1")
    for _ in range(20):
        bench.pipeline.start(waiting_files(bench.engine, "inbox"))
        begin_recovery(bench.engine, crashed=False)
    bench.screen(waiting_files(bench.engine, "inbox"))
    assert bench.states() == {"a": "screened"}


def test_picture_and_page_are_there_before_the_commit(bench, monkeypatch):
    """A result in the database never points at a page that is still to be written."""
    reports = bench.config.site.reports

    def check(_engine, outcomes, **_):
        for outcome in outcomes:
            assert (reports / outcome.picture).stat().st_size > 0
            assert (reports / outcome.page).read_text().endswith("</html>")
        raise Killed

    monkeypatch.setattr(pipeline_module, "finish", check)
    with pytest.raises(Killed):
        bench.screen(bench.items(a=b"1", b=b"2"))


def test_a_full_disk_leaves_nothing_committed_and_a_retry_succeeds(bench, monkeypatch):
    items = bench.items(a=b"1", b=b"2")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(pipeline_module, "write_pictures", full)
        with pytest.raises(OSError, match="No space"):
            bench.screen(items)
    assert bench.column("SELECT count(*) FROM screenings") == [0]
    assert kinds(bench.screen(items)) == [Screened, Screened]
    assert bench.column("SELECT DISTINCT strikes FROM files") == [0]


def test_decoders_that_do_not_start_blame_no_film(bench, monkeypatch):
    failing = Future()
    failing.set_exception(DecoderUnavailable("the decoder processes do not start"))
    monkeypatch.setattr(bench.screener, "examine", lambda _: failing)
    with pytest.raises(DecoderUnavailable):
        bench.screen(bench.items(a=b"1"))
    assert bench.column("SELECT count(*) FROM failures") == [0]


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing catches it and nothing is tidied up."""


STEPS = ("screened_contents", "begin_attempt", "write_pictures", "write_page", "finish")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_at_any_step_every_film_ends_exactly_once(bench, monkeypatch, step, when):
    bench.screener.errors[b"bad"] = [CorruptFile("broken")]
    real = getattr(pipeline_module, step)

    def killed(*arguments, **named):
        if when == "after":
            real(*arguments, **named)
        raise Killed

    with monkeypatch.context() as death:
        death.setattr(pipeline_module, step, killed)
        with pytest.raises(Killed):
            bench.screen(bench.items(a=b"1", b=b"bad", c=b"1", d=b"2"))
    begin_recovery(bench.engine, crashed=False)
    bench.new_run()
    for item in waiting_files(bench.engine, "inbox"):
        bench.screen([item])
    ended = {"a": "screened", "b": "failed", "c": "duplicate", "d": "screened"}
    assert bench.states() == ended
    assert bench.column("SELECT count(*) FROM screenings") == [2]
    assert bench.column("SELECT count(*) FROM failures") == [1]
