"""A backup is whole although a worker writes; a restore loses no film, whatever is cut off."""

import json
import shutil
import sqlite3
import threading

import pytest
from sqlalchemy import text

from worker.errors import CorruptFile, SiteBusy, StoreError
from worker.restore import feed_again, restore, unknown_films
from worker.site import hold_site
from worker.store import backup, sqlite
from worker.store.backup import back_up
from worker.store.database import integrity_problems, open_database
from worker.store.queries import results


@pytest.fixture
def saved(desk, tmp_path):
    """A site with a backup of when it had one film; then two more were screened and one failed."""
    desk.screener.errors[b"bad"] = [CorruptFile("broken")]
    desk.drop(a=b"1")
    desk.work()
    with desk.database() as engine:
        back_up(engine, tmp_path / "backup.db")
    desk.drop(b=b"2", c=b"3", d=b"bad")
    desk.work()
    desk.backup = tmp_path / "backup.db"
    return desk


def answers(desk):
    with desk.database() as engine:
        return {r.record.file: (r.status, r.record.decision) for r in results(engine)}


def bring_back(desk):
    """What the operator does after a restore."""
    with desk.database() as engine:
        for unknown in list(unknown_films(desk.site, engine)):
            feed_again(desk.site, unknown)
    desk.work()


def test_a_backup_is_a_sound_file_of_its_own_for_its_owner_alone(saved):
    assert saved.backup.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in saved.backup.parent.glob("backup.db*")] == ["backup.db"]
    with sqlite3.connect(saved.backup) as copy:
        assert copy.execute("SELECT count(*) FROM results").fetchone() == (1,)
    copy.close()


def test_a_backup_of_many_steps_is_of_one_moment_although_others_write_between(
    desk, tmp_path, monkeypatch
):
    """SQLite begins a copy in steps anew when somebody writes: for ever beside a busy worker."""
    monkeypatch.setattr(backup, "_STEP_PAGES", 5)
    desk.work()
    told = []

    def tell(what, done, total, unit, note=""):
        told.append((what, done, total))
        if what == "copying the database":
            with desk.database() as other, other.begin() as connection:
                connection.execute(text("UPDATE runs SET note = coalesce(note, '') || 'x'"))

    with desk.database() as engine:
        back_up(engine, tmp_path / "backup.db", tell=tell)
    steps = [(done, total) for what, done, total in told if what == "copying the database"]
    assert len(steps) > 3
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    with sqlite3.connect(tmp_path / "backup.db") as copy:
        assert copy.execute("SELECT note FROM runs").fetchall() == [(None,)]
    copy.close()
    assert desk.rows("SELECT length(note) FROM runs") == [(len(steps),)]


@pytest.mark.parametrize("stopped_at", ["copying the database", "checking the database"])
def test_a_backup_that_is_stopped_leaves_nothing(desk, tmp_path, monkeypatch, stopped_at):
    monkeypatch.setattr(sqlite, "_STEPS_TOLD", 1)
    desk.work()

    def tell(what, *_rest):
        if what == stopped_at:
            raise KeyboardInterrupt

    with desk.database() as engine, pytest.raises(KeyboardInterrupt):
        back_up(engine, tmp_path / "backup.db", tell=tell)
    assert not (tmp_path / "backup.db").exists()
    left = [path.name for path in desk.config.database.file.parent.iterdir() if "copy" in path.name]
    assert left == []


def test_a_backup_is_made_while_a_worker_writes(desk, tmp_path):
    desk.work()
    stop = threading.Event()

    def write():
        with desk.database() as engine:
            while not stop.is_set():
                with engine.begin() as connection:
                    connection.execute(text("UPDATE runs SET note = coalesce(note, '') || 'x'"))

    with hold_site(desk.config) as engine:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(3):
                back_up(engine, tmp_path / f"{number}.db")
        finally:
            stop.set()
            writer.join()
    for number in range(3):
        copy = open_database(
            desk.config.database.model_copy(update={"url": f"sqlite:///{tmp_path}/{number}.db"})
        )
        assert integrity_problems(copy) == []
        copy.dispose()


def test_a_backup_overwrites_nothing_unless_told(saved):
    before = saved.backup.read_bytes()
    with saved.database() as engine:
        with pytest.raises(FileExistsError):
            back_up(engine, saved.backup)
        assert saved.backup.read_bytes() == before
        back_up(engine, saved.backup, overwrite=True)
    assert saved.backup.read_bytes() != before


def test_a_copy_that_was_left_by_a_kill_is_swept_away(saved):
    left = saved.config.root / f".screen-copy-{2**22 + 1}-abc.tmp-wal"  # above every process id
    left.write_bytes(b"rows")
    with saved.database() as engine:
        back_up(engine, saved.backup, overwrite=True)
    assert not left.exists()


def test_a_restore_and_feeding_again_give_every_film_its_result_again(saved, everywhere):
    before, films = answers(saved), everywhere(saved.site.done, saved.site.failed)
    done = restore(saved.config, saved.backup, saved.now)
    assert answers(saved) == {"a.jpg": before["a.jpg"]}
    assert done.aside is not None
    assert everywhere(saved.site.done, saved.site.failed) == films
    bring_back(saved)
    assert answers(saved) == before
    assert everywhere(saved.site.done, saved.site.failed) == films
    assert saved.names("failed") == ["d.jpg", "d.jpg.json"]
    assert saved.rows("SELECT count(*) FROM screenings") == [(3,)]
    assert "c.jpg" in saved.worklist()


def test_the_replaced_database_is_kept_and_whole(saved):
    done = restore(saved.config, saved.backup, saved.now)
    assert done.aside.name == "screen.db.before-restore-20260503T120000"
    with sqlite3.connect(done.aside) as old:
        assert old.execute("SELECT count(*) FROM results").fetchone() == (4,)
    old.close()


STEPS = (
    "worker.restore.forget_moved",
    "worker.restore._tidy",
    "worker.restore.close_up",
    "worker.restore._set_aside",
    "worker.restore.sync_folder",
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_restore_that_is_killed_anywhere_leaves_one_whole_database(saved, killed_at, step, after):
    before = answers(saved)
    with killed_at(step, after=after):
        restore(saved.config, saved.backup, saved.now)
    assert answers(saved) in (before, {"a.jpg": before["a.jpg"]})
    with saved.database() as engine:
        assert integrity_problems(engine) == []
    later = saved.now.replace(hour=13)
    restore(saved.config, saved.backup, later)
    bring_back(saved)
    assert answers(saved) == before


def test_a_film_that_was_on_its_way_in_the_backup_is_not_called_lost(desk, killed_at, tmp_path):
    """Its row waited for a film that had long been put into done/."""
    desk.drop(a=b"1")
    with killed_at("worker.daemon.record", after=True):
        desk.work()
    with desk.database() as engine:
        back_up(engine, tmp_path / "backup.db")
    desk.work()
    done = restore(desk.config, tmp_path / "backup.db", desk.now)
    assert done.forgotten == 1
    bring_back(desk)
    assert answers(desk)["a.jpg"][0] == "screened"
    assert desk.rows("SELECT count(*) FROM failures") == [(0,)]


def test_a_film_that_is_still_on_its_way_stays_so(desk, killed_at, tmp_path):
    desk.drop(a=b"1")
    with killed_at("worker.daemon.record", after=True):
        desk.work()
    with desk.database() as engine:
        back_up(engine, tmp_path / "backup.db")
    assert restore(desk.config, tmp_path / "backup.db", desk.now).forgotten == 0
    desk.work()
    assert desk.names("done") == ["a.jpg"]


def test_nothing_is_restored_under_a_worker(saved):
    with hold_site(saved.config), pytest.raises(SiteBusy):
        restore(saved.config, saved.backup, saved.now)


def test_nothing_is_restored_under_a_program_that_reads(saved):
    reader = sqlite3.connect(saved.config.database.file)
    reader.execute("SELECT count(*) FROM files").fetchone()
    with pytest.raises(StoreError, match="open: close it"):
        restore(saved.config, saved.backup, saved.now)
    reader.close()
    assert len(answers(saved)) == 4


def test_a_damaged_database_is_replaced_and_kept_with_its_log(saved):
    file = saved.config.database.file
    content = file.read_bytes()
    file.write_bytes(b"no database at all" + content[18:])
    file.with_name("screen.db-wal").write_bytes(b"its log")
    done = restore(saved.config, saved.backup, saved.now)
    assert list(answers(saved)) == ["a.jpg"]
    assert done.aside.with_name(done.aside.name + "-wal").read_bytes() == b"its log"
    with saved.database() as engine:
        assert integrity_problems(engine) == []


def test_a_database_that_is_gone_is_restored(saved):
    saved.config.database.file.unlink()
    assert restore(saved.config, saved.backup, saved.now).aside is None
    assert list(answers(saved)) == ["a.jpg"]


@pytest.mark.parametrize("kind", ["missing", "text", "damaged", "another", "newer"])
def test_what_is_no_sound_backup_is_refused_and_nothing_changes(saved, tmp_path, kind):
    file = tmp_path / "given.db"
    if kind == "text":
        file.write_text("no database, but long enough to be one" * 100)
    if kind in ("damaged", "newer"):
        shutil.copy(saved.backup, file)
    if kind == "damaged":
        content = bytearray(file.read_bytes())
        content[4096:40_000] = b"\xaa" * (40_000 - 4096)
        file.write_bytes(content)
    if kind in ("another", "newer"):
        with sqlite3.connect(file) as other:
            newer = "UPDATE alembic_version SET version_num = '9999'"
            other.execute(newer if kind == "newer" else "CREATE TABLE songs (name)")
        other.close()
    with pytest.raises(StoreError):
        restore(saved.config, file, saved.now)
    assert len(answers(saved)) == 4
    assert list(saved.config.root.glob("*.before-restore-*")) == []
    assert list(saved.config.root.glob(".screen-*")) == []


def test_a_sidecar_is_no_unknown_film(saved):
    restore(saved.config, saved.backup, saved.now)
    with saved.database() as engine:
        found = [unknown.path.name for unknown in unknown_films(saved.site, engine)]
    assert found == ["b.jpg", "c.jpg", "d.jpg"]


def test_feeding_again_overwrites_no_film_in_the_inbox(saved):
    restore(saved.config, saved.backup, saved.now)
    saved.drop(b=b"another patient")
    bring_back(saved)
    assert {"b.jpg", "b-again-1.jpg"} < answers(saved).keys()


def test_the_commands_say_what_to_do(saved, screen):
    root = saved.config.root
    ended = screen("db", "restore", saved.backup, cwd=root)
    assert ended.returncode == 0, ended.stderr
    assert "3 films ended after the backup: 'screen db unknown --feed-again'" in ended.stdout
    assert len(json.loads(screen("db", "unknown", "--json", cwd=root).stdout)) == 3
    assert screen("db", "unknown", "--feed-again", cwd=root).stdout.startswith("3 films are back")
    assert saved.names("inbox") == ["b.jpg", "c.jpg", "d.jpg"]


@pytest.mark.parametrize("where", ["inbox/x.db", "screen.db", "none/x.db", "../backup.db"])
def test_a_backup_goes_nowhere_where_it_would_do_harm(saved, screen, where):
    ended = screen("db", "backup", saved.config.root / where, cwd=saved.config.root)
    assert ended.returncode == 2
    assert saved.names("inbox") == []
