"""The daemon: what it takes up, when it screens, how it pauses, and that it loses nothing."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from sqlalchemy import text

import worker.daemon as daemon_module
from tests.conftest import database_section
from tests.ward import Ward, killed_at, names
from worker.errors import (
    CorruptFile,
    DecoderCrashed,
    DecoderUnavailable,
    ShareGone,
    SiteBusy,
    StoreError,
)
from worker.site import hold_site, holder

pytestmark = pytest.mark.databases


@pytest.fixture
def ward(quick_site, screener, noon):
    with hold_site(quick_site) as engine:
        yield Ward(quick_site, engine, screener, noon)


def test_films_go_to_done_and_failures_to_failed_with_a_sidecar(ward):
    ward.screener.errors[b"bad"] = [CorruptFile("broken")]
    ward.drop(a=b"1", b=b"bad", c=b"1")
    ward.turns()
    assert names(ward.config.site.done) == ["a.jpg", "c.jpg"]
    assert names(ward.config.site.failed) == ["b.jpg", "b.jpg.json"]
    assert ward.claims() == []
    assert names(ward.inbox) == []
    assert ward.states() == {"a": "screened", "b": "failed", "c": "duplicate"}


def test_the_worklist_shows_what_has_been_screened(ward):
    ward.drop(a=b"1")
    ward.turns()
    assert "a.jpg" in (ward.config.site.reports / "index.html").read_text()


def test_names_of_different_folders_do_not_collide_in_done(ward):
    for folder in ("x", "y"):
        (ward.inbox / folder).mkdir()
        (ward.inbox / folder / "film.jpg").write_bytes(folder.encode())
    ward.turns()
    assert names(ward.config.site.done) == ["film-2.jpg", "film.jpg"]


def test_a_film_whose_name_is_no_text_is_screened_like_any_other(ward):
    """Its name could not be written to the database, which stopped the worker for good."""
    (ward.inbox / os.fsdecode(b"R\xf6ntgen\n.jpg")).write_bytes(b"1")
    ward.turns()
    assert names(ward.config.site.done) == ["R\\xf6ntgen\n.jpg"]


def test_a_film_and_a_file_named_like_its_sidecar_both_survive_failing(ward):
    ward.screener.errors = {b"film": [CorruptFile("broken")], b"{}": [CorruptFile("broken")]}
    (ward.inbox / "film.jpg.json").write_bytes(b"{}")
    ward.drop(film=b"film")
    ward.turns()
    contents = {path.read_bytes() for path in ward.config.site.failed.iterdir()}
    assert {b"{}", b"film"} < contents
    assert len(contents) == 4


def test_a_batch_waits_for_its_films_while_others_still_settle(ward):
    config = ward.config
    batch = config.batch.model_copy(update={"max_age_s": 60.0})
    ward.config = config.model_copy(update={"batch": batch})
    ward.restart()
    ward.drop(a=b"1", b=b"2")
    ward.daemon.turn()
    ward.daemon.turn()
    ward.drop(late=b"3")
    ward.daemon.turn()
    assert ward.states() == {"a": "waiting", "b": "waiting"}
    ward.turns()
    assert ward.screener.answered == [["a.jpg", "b.jpg", "late.jpg"]]


def test_a_batch_goes_when_its_oldest_film_has_waited(ward):
    ward.config = ward.config.model_copy(
        update={"batch": ward.config.batch.model_copy(update={"max_age_s": 60.0})}
    )
    ward.restart()
    ward.drop(a=b"1")
    ward.turns(2, seconds=0)
    for number in range(3):  # there is always one more film to come
        ward.drop(**{f"late{number}": b"late %d" % number})
        ward.daemon.turn()
    assert ward.screener.answered == []
    ward.clock.seconds += 60
    ward.drop(latest=b"latest")
    ward.daemon.turn()
    assert "a.jpg" in ward.screener.answered[0]


def test_a_full_batch_goes_at_once(ward):
    ward.config = ward.config.model_copy(
        update={"batch": ward.config.batch.model_copy(update={"max_age_s": 60.0})}
    )
    ward.restart()
    ward.drop(a=b"1", b=b"2", c=b"3", d=b"4")
    ward.turns(2, seconds=0)
    ward.drop(late=b"5")
    ward.daemon.turn()
    assert ward.screener.answered == [["a.jpg", "b.jpg", "c.jpg", "d.jpg"]]


def test_batches_hold_as_many_films_as_configured(ward):
    ward.drop(**{f"f{number}": b"%d" % number for number in range(10)})
    ward.turns()
    assert [len(films) for films in ward.screener.answered] == [4, 4, 2]


def test_recovery_takes_up_a_film_claimed_but_not_recorded(ward, monkeypatch):
    ward.drop(a=b"1")
    with killed_at(monkeypatch, "worker.daemon.record"):
        ward.turns()
    assert ward.states() == {}
    ward.restart()
    ward.daemon.recover()
    ward.turns()
    assert names(ward.config.site.done) == ["a.jpg"]


def test_recovery_takes_up_a_film_that_waits(ward, monkeypatch):
    ward.drop(a=b"1")
    with killed_at(monkeypatch, "worker.daemon.record", after=True):
        ward.turns()
    assert ward.states() == {"a": "waiting"}
    ward.restart()
    ward.daemon.recover()
    ward.turns()
    assert ward.states() == {"a": "screened"}
    assert ward.claims() == []


def test_recovery_finds_a_waiting_film_although_the_site_was_moved(ward, monkeypatch):
    """Its recorded path led nowhere: it was called lost while it lay in work/."""
    ward.drop(a=b"1")
    with killed_at(monkeypatch, "worker.daemon.record", after=True):
        ward.turns()
    with ward.engine.begin() as connection:
        connection.execute(text("UPDATE files SET path = :path"), {"path": b"/old/work/1/a.jpg"})
    ward.restart()
    ward.daemon.recover()
    ward.turns()
    assert ward.states() == {"a": "screened"}
    assert (names(ward.config.site.done), ward.claims()) == (["a.jpg"], [])


def test_recovery_moves_a_finished_film_to_its_place(ward, monkeypatch):
    ward.drop(a=b"1")
    with killed_at(monkeypatch, "worker.shelves.put_away"):
        ward.turns()
    assert ward.states() == {"a": "screened"}
    ward.restart()
    ward.daemon.recover()
    ward.turns(1)
    assert names(ward.config.site.done) == ["a.jpg"]
    assert ward.screener.decoded == ["a.jpg"]


def test_recovery_moves_a_failed_film_whose_sidecar_was_written(ward, monkeypatch):
    ward.screener.errors[b"bad"] = [CorruptFile("broken")]
    ward.drop(a=b"bad")
    with killed_at(monkeypatch, "worker.shelves.write_sidecar", after=True):
        ward.turns()
    ward.restart()
    ward.daemon.recover()
    ward.turns(1)
    assert names(ward.config.site.failed) == ["a.jpg", "a.jpg.json"]


def test_recovery_removes_an_empty_claim(ward):
    (ward.work / "0123").mkdir()
    ward.daemon.recover()
    assert ward.claims() == []


def test_recovery_ends_a_recorded_film_whose_file_is_gone(ward, monkeypatch):
    ward.drop(a=b"1")
    with killed_at(monkeypatch, "worker.daemon.record", after=True):
        ward.turns()
    next(ward.work.glob("*/a.jpg")).unlink()
    ward.restart()
    ward.daemon.recover()
    ward.turns()
    assert ward.column("SELECT reason FROM failures") == ["lost-file"]
    assert names(ward.config.site.failed) == ["a.jpg.json"]


def test_recovery_renders_pages_that_are_missing_or_cut_short(ward):
    ward.drop(a=b"1", b=b"2")
    ward.turns()
    first, second = sorted((ward.config.site.reports / "films").iterdir())
    whole = first.read_text(), second.read_text()
    first.unlink()
    second.write_text(whole[1][:100])
    ward.restart()
    ward.daemon.recover()
    assert (first.read_text(), second.read_text()) == whole


def test_films_in_hand_when_the_worker_died_are_tried_alone(ward, monkeypatch):
    ward.drop(a=b"1", b=b"2", c=b"3")
    with killed_at(monkeypatch, "worker.pipeline.finish"):
        ward.turns()
    ward.screener.answered.clear()
    ward.restart()
    ward.daemon.recover()
    ward.drop(d=b"4", e=b"5")
    ward.turns()
    assert ward.screener.answered[:3] == [["a.jpg"], ["b.jpg"], ["c.jpg"]]
    assert ["d.jpg", "e.jpg"] in ward.screener.answered


STEPS = (
    "worker.daemon.record",
    "worker.pipeline.begin_attempt",
    "worker.pipeline.finish",
    "worker.daemon.finished_files",
    "worker.shelves.write_sidecar",
    "worker.shelves.put_away",
    "worker.chores.write_worklist",
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_at_any_step_every_film_ends_exactly_once(ward, monkeypatch, step, after):
    ward.screener.errors[b"bad"] = [CorruptFile("broken")]
    ward.drop(a=b"1", b=b"bad", c=b"1", d=b"2")
    with killed_at(monkeypatch, step, after=after):
        ward.turns()
    ward.restart()
    ward.daemon.recover()
    ward.turns()
    states = ward.states()
    assert (states["b"], states["d"]) == ("failed", "screened")
    assert {states["a"], states["c"]} == {"screened", "duplicate"}
    assert names(ward.config.site.done) == ["a.jpg", "c.jpg", "d.jpg"]
    assert names(ward.config.site.failed) == ["b.jpg", "b.jpg.json"]
    assert (names(ward.inbox), ward.claims()) == ([], [])
    assert ward.column("SELECT count(*) FROM screenings") == [2]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("worker.pipeline.write_pictures", OSError(28, "No space left on device")),
        ("worker.pipeline.finish", StoreError("the database refused: database is locked")),
        ("worker.shelves.put_away", OSError(5, "Input/output error")),
        ("worker.daemon.record", StoreError("the database refused: database is locked")),
        ("worker.pipeline.begin_attempt", StoreError("the database refused: locked")),
    ],
)
def test_what_disk_or_database_refuse_blames_no_film_and_works_later(
    ward, monkeypatch, step, error
):
    def refuse(*_, **__):
        raise error

    ward.drop(a=b"1", b=b"2", c=b"1")
    with monkeypatch.context() as trouble:
        trouble.setattr(step, refuse)
        for _ in range(3):
            with contextlib.suppress(OSError, StoreError):
                ward.turns()
    ward.turns()
    states = ward.states()
    assert states["b"] == "screened"
    assert {states["a"], states["c"]} == {"screened", "duplicate"}
    assert ward.column("SELECT sum(strikes) + sum(worker_deaths) FROM files") == [0]
    assert names(ward.config.site.done) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space"), StoreError("locked"), DecoderUnavailable("none")]
)
def test_intake_pauses_and_resumes_by_itself(ward, monkeypatch, error):
    monkeypatch.setattr("worker.patience._PAUSES_S", (0.001,))
    refusals = [error, error]

    def step():
        if refusals:
            raise refusals.pop()

    ward.daemon._until_it_works(step)
    assert refusals == []


def test_a_pause_ends_when_the_daemon_is_stopped(ward):
    ward.daemon.stop()

    def refuse():
        raise OSError(28, "No space left on device")

    assert ward.daemon._until_it_works(refuse) is None


def test_the_log_of_a_pause_names_no_file(ward, monkeypatch, caplog):
    ward.daemon.stop()

    def refuse():
        raise FileNotFoundError(2, "No such file or directory", "/inbox/Jane Doe.dcm")

    ward.daemon._until_it_works(refuse)
    assert "No such file or directory" in caplog.text
    assert "Jane" not in caplog.text


def test_the_log_names_no_file_that_fails(ward, caplog):
    ward.screener.errors[b"bad"] = [DecoderCrashed("died on Jane_Doe.jpg")]
    with caplog.at_level("DEBUG"):
        ward.drop(Jane_Doe=b"bad")
        ward.turns()
    assert "Jane" not in caplog.text
    assert "quarantined" in [getattr(record, "slug", None) for record in caplog.records]


def test_the_daemon_watches_until_it_is_told_to_stop(ward):
    """Films of before the start and films dropped later are both screened."""
    ward.drop(before=b"1")
    ward.daemon._now = iter(range(10**9)).__next__
    watching = threading.Thread(target=ward.daemon.run, daemon=True)
    done = ward.config.site.done
    dropped, committed = threading.Event(), threading.Event()
    monitored = ward.daemon._put_away

    def put_away():
        monitored()
        if (done / "later.jpg").exists():
            committed.set()
        elif (done / "before.jpg").exists() and not dropped.is_set():
            ward.drop(later=b"2")
            dropped.set()

    ward.daemon._put_away = put_away
    watching.start()
    assert committed.wait(30)
    ward.daemon.stop()
    watching.join(30)
    assert not watching.is_alive()
    assert names(done) == ["before.jpg", "later.jpg"]


@pytest.mark.databases("sqlite")  # several on PostgreSQL: tests/cluster
def test_a_site_has_one_worker(quick_site):
    with hold_site(quick_site):
        assert holder(quick_site) == os.getpid()
        with pytest.raises(SiteBusy, match=str(os.getpid())), hold_site(quick_site):
            pass
    assert holder(quick_site) is None


@pytest.mark.databases("sqlite")  # several on PostgreSQL: tests/cluster
def test_a_site_is_free_again_when_its_worker_was_killed(quick_site):
    code = (
        "import os, sys; from pathlib import Path; from worker.config import load_config\n"
        "from worker.site import hold_site\n"
        "with hold_site(load_config(Path(sys.argv[1]))): os.kill(os.getpid(), 9)"
    )
    file = quick_site.root / "config.toml"
    died = subprocess.run([sys.executable, "-c", code, file], check=False)
    assert died.returncode == -signal.SIGKILL
    with hold_site(quick_site):
        pass


@pytest.fixture
def real_site(quick_site, tiny_model):
    """A site that runs the tiny model; it scans every fifth of a second."""
    file = quick_site.root / "config.toml"
    file.write_text(
        "[watch]\nsettle_s = 0\nscan_interval_s = 0.2\n[decode]\nprocesses = 1\n"
        f"[model]\nname = '{tiny_model}'\nprecision = 'float32'\n"
        f"{database_section(quick_site)}"
    )
    return quick_site


def jpeg():
    film = np.random.default_rng(1).integers(0, 255, (128, 128), np.uint8)
    return cv2.imencode(".jpg", cv2.GaussianBlur(film, (0, 0), 9))[1].tobytes()


@pytest.mark.slow
def test_sigterm_ends_the_worker_with_everything_in_its_place(real_site, repository):
    (real_site.site.inbox / "film.jpg").write_bytes(jpeg())
    worker = subprocess.Popen(
        [sys.executable, "-m", "worker", "watch"],
        cwd=real_site.root,
        env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "2"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        begins = ("watching the inbox", "this worker takes films in")  # handlers are set then
        assert any(each in line for line in worker.stderr for each in begins)
        wait_for(real_site.site.done / "film.jpg")
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 0
    is_alone = real_site.database.is_file
    assert names(real_site.site.work) == [*([".lock"] if is_alone else []), ".site"]
    assert "film.jpg" in (real_site.site.reports / "index.html").read_text()
    assert holder(real_site) is None


def wait_for(path, limit_s=60.0):
    """Wait until a file is there, with a bound."""
    never = threading.Event()
    for _ in range(int(limit_s / 0.05)):
        if path.exists():
            return
        never.wait(0.05)
    pytest.fail(f"{path.name} did not come within {limit_s} s")


@pytest.mark.slow
@pytest.mark.databases("sqlite")
def test_once_screens_what_is_whole_leaves_what_is_not_and_exits_with_3(real_site, screen):
    film = jpeg()
    (real_site.site.inbox / "whole.jpg").write_bytes(film)
    (real_site.site.inbox / "half.jpg").write_bytes(film[: len(film) // 2])
    ended = screen("watch", "--once", cwd=real_site.root)
    assert ended.returncode == 3
    assert "half.jpg" in ended.stderr
    assert "incomplete" in ended.stderr
    assert names(real_site.site.inbox) == ["half.jpg"]
    assert names(real_site.site.done) == ["whole.jpg"]


@pytest.mark.databases("sqlite")
def test_a_second_worker_is_refused_with_the_process_that_holds_the_site(real_site, screen):
    with hold_site(real_site):
        refused = screen("watch", "--once", cwd=real_site.root)
    assert refused.returncode == 1
    assert f"process {os.getpid()}" in refused.stderr


def test_a_bad_sector_under_one_film_stops_no_other(ward, monkeypatch):
    """Its EIO was met again and again, and intake paused for ever."""
    from worker import filesystem

    real = filesystem.open_film

    def sick(path, max_bytes):
        if path.read_bytes() == b"sick":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path, max_bytes)

    monkeypatch.setattr(filesystem, "open_film", sick)
    ward.drop(a=b"1", b=b"sick", c=b"2")
    for _ in range(5):
        with contextlib.suppress(OSError):
            ward.turns()
    assert ward.states() == {"a": "screened", "b": "failed", "c": "screened"}
    assert ward.column("SELECT reason FROM failures") == ["unreadable-file"]


def test_a_share_that_cannot_be_read_at_all_blames_no_film(ward, monkeypatch):
    def gone(*_):
        raise OSError(errno.EIO, "Input/output error")

    ward.drop(a=b"1")
    with monkeypatch.context() as trouble:
        trouble.setattr("worker.filesystem.open_film", gone)
        trouble.setattr("worker.admission.works", lambda _folder: False)
        for _ in range(5):
            with contextlib.suppress(OSError):
                ward.turns()
    ward.turns()
    assert ward.states() == {"a": "screened"}


def test_after_trouble_what_is_in_hand_comes_before_new_films(ward, monkeypatch):
    """Intake pauses: while the disk refuses, nothing more is taken out of the inbox."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    ward.drop(a=b"1")
    with monkeypatch.context() as trouble:
        trouble.setattr("worker.pipeline.write_pictures", full)
        for _ in range(3):
            with contextlib.suppress(OSError):
                ward.turns()
        ward.drop(b=b"2")
        for _ in range(5):
            with contextlib.suppress(OSError):
                ward.turns()
    assert names(ward.inbox) == ["b.jpg"]
    ward.turns()
    assert ward.states() == {"a": "screened", "b": "screened"}


def test_a_claim_that_happened_although_it_was_refused_is_taken_up(ward):
    """NFS: the server did it, its answer was lost."""
    (ward.work / "0123").mkdir()
    (ward.work / "0123" / "a.jpg").write_bytes(b"1")
    ward.daemon._in_trouble = True
    ward.turns(1)
    assert ward.states() == {"a": "screened"}


def test_a_film_that_somebody_holds_open_on_its_way_out_holds_up_no_other(ward, monkeypatch):
    """A virus scanner on the server: EBUSY for one film paused intake for all."""
    from worker import shelves

    real, held = shelves.put_away, [True]

    def busy(claimed, target):
        if claimed.name == "a.jpg" and held:
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(claimed, target)

    monkeypatch.setattr(shelves, "put_away", busy)
    ward.drop(a=b"1", b=b"2")
    ward.turns()
    assert names(ward.config.site.done) == ["b.jpg"]
    held.clear()
    ward.turns(1)
    assert names(ward.config.site.done) == ["a.jpg", "b.jpg"]


def test_a_pause_is_told_with_its_cause(ward, monkeypatch):
    monkeypatch.setattr("worker.patience._PAUSES_S", (0.001,))
    refusals = [OSError(errno.ENOSPC, "No space", "/inbox/Jane")]

    def step():
        if refusals:
            raise refusals.pop()

    ward.daemon._until_it_works(step)
    assert ("paused", "No space left on device", 0) in ward.pulse.beats


def test_a_film_in_failed_lost_its_name_to_somebody_and_goes_by_another(ward, monkeypatch):
    from worker import shelves

    ward.drop(a=b"1")
    with monkeypatch.context() as later:
        later.setattr(shelves.Shelves, "put_away", lambda *_: None)
        ward.turns()
    (ward.config.site.done / "a.jpg").write_bytes(b"somebody's")
    ward.restart()
    ward.daemon.recover()
    ward.turns(1)
    contents = {path.read_bytes() for path in ward.config.site.done.iterdir()}
    assert contents == {b"1", b"somebody's"}


def test_the_worklist_is_not_written_into_a_folder_that_has_lost_its_mark(ward):
    """A share that went during a turn had its worklist in the bare mount point."""
    (ward.config.site.reports / ".site").unlink()
    with pytest.raises(ShareGone):
        ward.daemon._chores.write_worklist()
    assert not (ward.config.site.reports / "index.html").exists()


def test_no_sidecar_is_written_when_the_share_went_after_the_commit(ward, monkeypatch):
    ward.screener.errors[b"bad"] = [CorruptFile("broken")]
    ward.drop(a=b"bad")
    with killed_at(monkeypatch, "worker.shelves.write_sidecar"):
        ward.turns()
    (ward.config.site.reports / ".site").unlink()
    with pytest.raises(ShareGone):
        ward.daemon._put_away()
    assert names(ward.config.site.failed) == []


def test_what_was_half_written_when_the_share_went_is_gone_after_the_trouble(ward):
    """It stayed in pictures/ until the worker was started again."""
    ward.drop(a=b"1")
    ward.turns()
    (ward.config.site.reports / "pictures" / ".screen-half.tmp").write_bytes(b"half")
    ward.daemon._in_trouble = True
    ward.turns(1)
    assert not list((ward.config.site.reports / "pictures").glob(".screen-*"))


def test_a_full_inbox_is_claimed_batch_by_batch_while_it_is_screened(ward, monkeypatch):
    """Decoders once waited until all of it was claimed and synced to the disk."""
    size = ward.config.batch.size
    order = []
    examine, secure = ward.screener.examine, daemon_module.secure

    def watched_claim(site, claims):
        order.append("claim")
        secure(site, claims)

    monkeypatch.setattr(daemon_module, "secure", watched_claim)
    monkeypatch.setattr(
        ward.screener, "examine", lambda path: order.append("decode") or examine(path)
    )
    ward.drop(**{f"f{number}": str(number).encode() for number in range(5 * size)})
    ward.turns()
    assert set(ward.states().values()) == {"screened"}
    assert order.count("claim") == 5
    assert order.index("decode") == 1
