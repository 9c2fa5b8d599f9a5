"""A backfill never changes its archive, resumes where it stopped, and ends every file once."""

import errno
import os
import threading
from collections import Counter

import pytest
from sqlalchemy import text

from worker.backfill import backfill
from worker.errors import CorruptFile, ShareGone, TooLarge, WrongArchive
from worker.intake.archive import Folder, archive_files
from worker.pipeline import Pipeline
from worker.site import hold_site
from worker.store.archives import listing, record_listed
from worker.store.outcomes import Duplicate, Failed, Screened
from worker.store.work import begin_recovery, begin_run, end_run, register_model

pytestmark = pytest.mark.databases


class Archivist:
    """Runs backfills of one archive and remembers what each was told."""

    def __init__(self, config, engine, screener, noon):
        self.config, self.engine, self.screener, self.noon = config, engine, screener, noon
        self.passed_over, self.outcomes = 0, []

    def run(self, *folders, limit=None, batch_size=2, advance=None, reports="all", **options):
        """One backfill as the command does it; returns its outcomes by kind."""
        self.passed_over, self.outcomes = 0, []
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
        begin_recovery(self.engine, crashed=False)
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
            ),
            [Folder(folder) for folder in folders],
            run_id=run_id,
            model_id=model_id,
            batch_size=batch_size,
            limit=limit,
            advance=advance or self.advance,
            **options,
        )
        end_run(self.engine, run_id, self.noon)
        return Counter(type(outcome) for outcome in self.outcomes)

    def advance(self, files, outcomes):
        self.outcomes += outcomes
        self.passed_over += 0 if outcomes else files

    def states(self):
        with self.engine.connect() as connection:
            rows = connection.execute(text("SELECT state, count(*) FROM files GROUP BY state"))
            return {row.state: row[1] for row in rows}


@pytest.fixture
def archivist(site, screener, noon):
    with hold_site(site) as engine:
        yield Archivist(site, engine, screener, noon)


@pytest.fixture
def archive(tmp_path):
    """Seven films in two folders, the last two with one content."""
    folder = tmp_path / "archive"
    (folder / "2019").mkdir(parents=True)
    for number in range(7):
        name = f"2019/{number}.jpg" if number % 2 else f"{number}.jpg"
        (folder / name).write_bytes(b"%d" % min(number, 5))
    return folder


def test_every_file_has_one_outcome(archivist, archive):
    archivist.screener.errors[b"3"] = [CorruptFile("broken")]
    assert archivist.run(archive) == {Screened: 5, Duplicate: 1, Failed: 1}
    assert archivist.states() == {"screened": 5, "duplicate": 1, "failed": 1}


def test_the_archive_is_never_changed(archivist, archive, tree):
    archivist.screener.errors[b"3"] = [CorruptFile("broken")]
    before = tree(archive)
    archivist.run(archive)
    assert tree(archive) == before


def test_the_same_command_again_has_nothing_to_do(archivist, archive):
    archivist.run(archive)
    assert archivist.run(archive) == {}
    assert archivist.passed_over == 7


def test_a_limit_stops_after_so_many_files_and_the_next_run_does_the_rest(archivist, archive):
    assert archivist.run(archive, limit=3).total() == 3
    decoded = set(archivist.screener.decoded)
    archivist.screener.decoded.clear()
    assert archivist.run(archive).total() == 4
    assert not decoded & set(archivist.screener.decoded)


def test_files_finished_before_do_not_count_towards_the_limit(archivist, archive):
    archivist.run(archive, limit=3)
    assert archivist.run(archive, limit=3).total() == 3


class Killed(BaseException):
    """What kill -9 looks like from inside."""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_after_a_kill_the_rest_is_done_and_nothing_twice(archivist, archive, after):
    batches = []

    def die(_files, outcomes):
        batches.append(outcomes)
        if len(batches) == after:
            raise Killed

    with pytest.raises(Killed):
        archivist.run(archive, advance=die)
    done = {outcome.item.found.file for batch in batches for outcome in batch}
    archivist.run(archive)
    rest = {outcome.item.found.file for outcome in archivist.outcomes}
    assert done | rest == {found.file for found in archive_files(archive)}
    assert not done & rest
    assert archivist.states() == {"screened": 6, "duplicate": 1}


def test_films_in_hand_at_a_kill_are_tried_alone(archivist, archive):
    def die(_files, _outcomes):
        raise Killed

    with pytest.raises(Killed):
        archivist.run(archive, batch_size=3, advance=die)
    archivist.screener.answered.clear()
    archivist.run(archive, batch_size=3)
    # Of six films in two batches three were committed; the other three were in hand.
    assert [len(films) for films in archivist.screener.answered][:3] == [1, 1, 1]


def test_an_error_of_the_disk_leaves_the_rest_for_the_next_run(archivist, archive, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("worker.pipeline.write_pictures", full)
        with pytest.raises(OSError, match="No space"):
            archivist.run(archive)
    assert archivist.run(archive) == {Screened: 6, Duplicate: 1}


def test_another_model_screens_the_archive_again(archivist, archive, new_card, new_screener):
    archivist.run(archive)
    archivist.screener = new_screener(new_card(name="newer"))
    archivist.screener.preprocessing = "2/other"
    assert archivist.run(archive) == {Screened: 6, Duplicate: 1}


def test_a_file_that_changed_since_is_screened_again(archivist, archive):
    archivist.run(archive)
    (archive / "0.jpg").write_bytes(b"a new film")
    assert archivist.run(archive) == {Screened: 1}


def test_an_archive_given_twice_is_screened_once(archivist, archive):
    """Both answers for one file once broke the unique constraint."""
    assert archivist.run(archive, archive, batch_size=16).total() == 7


def test_an_empty_archive_is_no_error(archivist, tmp_path):
    (tmp_path / "empty").mkdir()
    assert archivist.run(tmp_path / "empty") == {}


def test_nothing_is_moved_to_done_or_failed(archivist, archive, site):
    archivist.screener.errors[b"3"] = [CorruptFile("broken")]
    archivist.run(archive)
    for folder in (site.site.done, site.site.failed):
        assert list(folder.iterdir()) == []


def test_what_failed_for_a_limit_is_tried_again_when_the_limit_is_raised(archivist, archive):
    """A film once stayed `too-large` for ever, and the next run said that all was well."""
    archivist.screener.errors[(archive / "0.jpg").read_bytes()] = [TooLarge("big"), None]
    assert archivist.run(archive)[Failed] == 1
    assert archivist.run(archive) == {Screened: 1}
    assert "failed" not in archivist.states()


def test_what_is_broken_in_itself_is_not_tried_again(archivist, archive):
    archivist.screener.errors[(archive / "0.jpg").read_bytes()] = [CorruptFile("torn"), None]
    assert archivist.run(archive)[Failed] == 1
    assert archivist.run(archive) == {}


def test_a_film_that_changes_between_hash_and_decoding_is_not_screened(archivist, archive):
    """Its score was once stored under the hash of other bytes."""
    path, decode = archive / "0.jpg", archivist.screener.examine

    def written_meanwhile(film):
        if film == path:
            path.write_bytes(b"more")
        return decode(film)

    archivist.screener.examine = written_meanwhile
    archivist.run(archive)
    (failed,) = (each for each in archivist.outcomes if isinstance(each, Failed))
    assert failed.error.slug == "changed-file"


def test_a_share_that_fails_blames_no_film(archivist, archive, monkeypatch):
    """Every I/O error once failed its film for good."""

    def gone(*_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("worker.filesystem.open_film", gone)
    with pytest.raises(OSError, match="Stale"):
        archivist.run(archive)
    monkeypatch.undo()
    assert archivist.run(archive)[Failed] == 0


@pytest.mark.parametrize("when", ["mid-run", "at a resume"])
def test_an_archive_whose_share_is_not_mounted_blames_no_film(archivist, archive, when):
    """Every film that waited was called lost."""
    away = archive.with_name("away")

    def unmounted(_files, outcomes):
        if outcomes and archive.exists() and not away.exists():
            archive.rename(away)
            archive.mkdir()
            if when == "at a resume":
                raise Stopped

    with pytest.raises(ShareGone if when == "mid-run" else Stopped):
        archivist.run(archive, batch_size=1, advance=unmounted)
    with pytest.raises(ShareGone):
        archivist.run(archive)
    with pytest.raises(ShareGone):
        archivist.run(archive, rescan=True)
    archive.rmdir()
    away.rename(archive)
    archivist.run(archive)
    assert archivist.states() == {"screened": 6, "duplicate": 1}


def test_another_share_in_the_place_of_an_archive_blames_no_film(archivist, archive):
    """It is not empty: only the films that wait say that it is another."""
    for number in range(20):
        (archive / f"more-{number:02}.jpg").write_bytes(b"%d" % (10 + number))
    archivist.run(archive, limit=5)
    with archivist.engine.connect() as connection:
        before = connection.execute(text("SELECT id, state FROM files ORDER BY id")).all()
    archive.rename(archive.with_name("away"))
    archive.mkdir()
    (archive / "lost+found").write_bytes(b"none of these films")
    with pytest.raises(WrongArchive, match="holds none of 27 films"):
        archivist.run(archive)
    with archivist.engine.connect() as connection:
        assert connection.execute(text("SELECT id, state FROM files ORDER BY id")).all() == before
    assert archivist.run(archive, rescan=True)[Failed] == 22
    assert archivist.run(archive)[Failed] == 22  # they are known to be gone: none of them waits


def test_many_films_that_were_deleted_are_lost_films_of_the_same_archive(archivist, archive):
    for number in range(20):
        (archive / f"more-{number:02}.jpg").write_bytes(b"%d" % (10 + number))
    archivist.run(archive, limit=7)
    for path in archive.glob("more-*"):
        path.unlink()
    for _ in range(3):
        assert archivist.run(archive)[Failed] == 20
    (archive / "new.jpg").write_bytes(b"new")
    assert archivist.run(archive)[Screened] == 1


def test_a_film_that_was_removed_from_an_archive_is_lost_all_the_same(archivist, archive):
    half_done(archivist, archive)
    gone = archive / "6.jpg"
    gone.unlink()
    assert archivist.run(archive)[Failed] == 1


class Stopped(Exception):
    """Whoever ran it wants it to end."""


def stop(_files, outcomes):
    if outcomes:
        raise Stopped


@pytest.fixture
def walks(monkeypatch):
    """Archives that were walked, and after which file."""
    walked = []
    real = Folder.files

    def files(self, on_error, after=None):
        walked.append(after)
        return real(self, on_error, after)

    monkeypatch.setattr(Folder, "files", files)
    return walked


def half_done(archivist, archive):
    """A backfill that has listed everything and screened a part."""
    with pytest.raises(Stopped):
        archivist.run(archive, advance=stop)
    model_id = register_model(
        archivist.engine, archivist.screener.card, archivist.screener.preprocessing, archivist.noon
    )
    known = listing(archivist.engine, str(archive), model_id)
    assert (known.files, known.listed_at is None) == (7, False)


def test_a_whole_list_serves_until_all_on_it_is_finished(archivist, archive, walks):
    half_done(archivist, archive)
    (archive / "late.jpg").write_bytes(b"late")
    resumed = []
    archivist.run(archive, on_resume=resumed.append)
    assert walks == [None]
    assert [each.files for each in resumed] == [7]
    assert archivist.run(archive) == {Screened: 1}  # all was finished: listed anew
    assert walks == [None, None]


def test_a_rescan_finds_new_and_changed_files_although_others_wait(archivist, archive, walks):
    half_done(archivist, archive)
    (archive / "late.jpg").write_bytes(b"late")
    (archive / "0.jpg").write_bytes(b"changed")
    archivist.run(archive, rescan=True)
    assert walks == [None, None]
    assert {"0.jpg", "late.jpg"} <= {each.item.found.path.name for each in archivist.outcomes}
    assert archivist.states() == {"screened": 8, "duplicate": 1}


def test_a_failure_that_may_pass_does_not_make_an_old_list_serve(archivist, archive):
    """New films of a growing archive were never seen while one film stayed too large."""
    archivist.screener.errors[(archive / "0.jpg").read_bytes()] = [TooLarge("big")]
    archivist.run(archive)
    (archive / "late.jpg").write_bytes(b"late")
    assert archivist.run(archive) == {Failed: 1, Screened: 1}


def test_a_list_that_was_cut_off_goes_on_where_it_stopped(archivist, archive, walks, monkeypatch):
    monkeypatch.setattr("worker.lister._ROWS", 2)
    real, left = record_listed, [3]

    def dies(*arguments, **named):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.EIO, "the disk")
        return real(*arguments, **named)

    with monkeypatch.context() as disk:
        disk.setattr("worker.lister.record_listed", dies)
        with pytest.raises(OSError, match="the disk"):
            archivist.run(archive)
    assert archivist.run(archive).total() + archivist.passed_over == 7
    names = [each.place for each in archive_files(archive)]
    assert walks == [None, names[3]]
    assert sum(archivist.states().values()) == 7


def test_an_archive_with_a_folder_that_cannot_be_listed_is_walked_again(
    archivist, archive, walks, monkeypatch
):
    real = os.scandir

    def refuses(folder):
        if str(folder).endswith("2019"):
            raise PermissionError(errno.EACCES, "no", str(folder))
        return real(folder)

    unlisted = []
    with monkeypatch.context() as disk:
        disk.setattr("os.scandir", refuses)
        archivist.run(archive, on_error=unlisted.append)
    assert len(unlisted) == 1
    archivist.run(archive, limit=1)
    assert archivist.run(archive).total() + 1 == 3  # those of 2019
    assert walks[:2] == [None, None]


def test_a_folder_that_cannot_be_listed_is_not_forgotten_when_the_run_is_cut_off(
    archivist, archive, monkeypatch
):
    """The next run went on behind it, called the list whole and ended well without its films."""
    monkeypatch.setattr("worker.lister._ROWS", 1)
    real, left = os.scandir, [4]

    def refuses(folder):
        if str(folder).endswith("2019"):
            raise PermissionError(errno.EACCES, "no", str(folder))
        return real(folder)

    def stopped(*arguments, **named):
        left[0] -= 1
        if not left[0]:
            raise Stopped
        return record_listed(*arguments, **named)

    unlisted = []
    with monkeypatch.context() as disk:
        disk.setattr("os.scandir", refuses)
        disk.setattr("worker.lister.record_listed", stopped)
        with pytest.raises(Stopped):
            archivist.run(archive, on_error=unlisted.append)
    assert len(unlisted) == 1
    archivist.run(archive)
    assert sum(archivist.states().values()) == 7


def test_a_stop_does_not_wait_for_a_folder_that_is_being_listed(archivist, archive, monkeypatch):
    """A stop waited until a thousand more films were found, or none."""
    monkeypatch.setattr("worker.lister._ROWS", 1)
    monkeypatch.setattr("worker.lister._ENDS_WITHIN_S", 0.1)
    real, goes_on, ended = Folder.files, threading.Event(), threading.Event()

    def hangs(self, on_error, after=None):
        yield next(real(self, on_error, after))
        goes_on.wait(30)
        ended.set()

    with monkeypatch.context() as disk:
        disk.setattr(Folder, "files", hangs)
        archivist.run(archive, limit=1)
        assert not ended.is_set()
        goes_on.set()
        assert ended.wait(20)
    for thread in threading.enumerate():
        if thread.name == "lister":
            thread.join(20)
    archivist.run(archive)
    assert sum(archivist.states().values()) == 7


def test_every_file_is_counted_once_however_often_it_was_listed(archivist, archive):
    totals = []
    archivist.run(archive, limit=2, on_total=totals.append)
    archivist.run(archive, rescan=True, on_total=totals.append)
    assert totals[-1] == 7
    assert (archivist.passed_over, len(archivist.outcomes)) == (2, 5)


def test_films_are_screened_while_the_archive_is_still_listed(archivist, archive, monkeypatch):
    """The whole archive was walked before the first film was decoded."""
    monkeypatch.setattr("worker.lister._ROWS", 1)
    screened = threading.Event()
    real = record_listed

    def waits(*arguments, **named):
        if arguments[2][0].path.name == "6.jpg":
            assert screened.wait(20)
        return real(*arguments, **named)

    monkeypatch.setattr("worker.lister.record_listed", waits)

    def advance(_files, outcomes):
        if outcomes:
            screened.set()

    archivist.run(archive, batch_size=1, advance=advance)
    assert archivist.states() == {"screened": 6, "duplicate": 1}
