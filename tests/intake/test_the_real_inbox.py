"""What else lies in an inbox: links, pipes, deep trees, odd clocks, tools' names, other owners."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from tests.conftest import NOT_ALLOWED
from worker.folders import regular_files
from worker.intake import scan as scan_module
from worker.intake.found import Found
from worker.intake.inbox import Inbox
from worker.intake.names import is_temporary
from worker.intake.scan import survey
from worker.site import hold_site
from worker.store.work import begin_run, record, register_model


def look_often(inbox, start=0.0, end=10.0):
    """Look every half second; the last look."""
    return [inbox.look(start + i / 2) for i in range(int((end - start) * 2) + 1)][-1]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Links, pipes, devices


def test_a_link_is_never_taken_and_its_target_stays(inbox, films, jpeg, tmp_path):
    (tmp_path / "outside.jpg").write_bytes(jpeg)
    (films / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (films / "folder").symlink_to(tmp_path)
    look = look_often(inbox)
    assert (look.ready, look.left_alone) == ((), {"symbolic link": 2})
    assert (tmp_path / "outside.jpg").exists()


def test_a_link_that_takes_the_place_of_a_film_is_not_claimed(inbox, films, jpeg, tmp_path):
    """Between the look and the claim."""
    (films / "film.jpg").write_bytes(jpeg)
    (ready,) = look_often(inbox).ready
    (tmp_path / "outside.jpg").write_bytes(jpeg)
    ready.unlink()
    ready.symlink_to(tmp_path / "outside.jpg")
    assert inbox.claim(ready) is None
    assert ready.is_symlink()
    assert (tmp_path / "outside.jpg").exists()


def test_nothing_is_moved_through_a_folder_that_was_swapped_for_a_link(
    inbox, films, site, jpeg, tmp_path
):
    """It could lead to any file that the worker may move, even of the same inode."""
    (films / "sub").mkdir()
    (films / "sub" / "film.jpg").write_bytes(jpeg)
    (ready,) = look_often(inbox).ready
    (films / "sub").rename(tmp_path / "elsewhere")
    (films / "sub").symlink_to(tmp_path / "elsewhere")
    assert inbox.claim(ready) is None
    assert names(tmp_path / "elsewhere") == ["film.jpg"]
    assert names(site.site.work) == []


def test_pipes_sockets_and_devices_are_left_alone_with_one_warning_each(
    inbox, films, jpeg, caplog, monkeypatch
):
    (films / "film.jpg").write_bytes(jpeg)
    for name in ("Jane.jpg", "John.jpg"):
        os.mkfifo(films / name)
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(films)  # a socket's path is short
        listener.bind("Jim.sock")
    device(films / "null.jpg")
    look = look_often(inbox)
    assert look.ready == (films / "film.jpg",)
    assert look.left_alone == {"FIFO": 2, "socket": 1, "device": 1}
    told = {record.getMessage().split(": ")[1]: record.count for record in caplog.records}
    assert told == {"device": 1, "socket": 1, "FIFO": 2}
    assert "J" not in caplog.text.replace("Jan", "")  # no names


def device(path):
    try:
        os.mknod(path, 0o20600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip(f"{NOT_ALLOWED} to make devices")


def test_one_more_pipe_is_one_more_warning(inbox, films, caplog):
    os.mkfifo(films / "a")
    look_often(inbox)
    os.mkfifo(films / "b")
    look_often(inbox, start=11, end=12)
    assert len(caplog.records) == 2


# Hard links


def test_a_film_with_another_name_elsewhere_is_taken_and_the_other_name_stays(
    inbox, films, jpeg, tmp_path
):
    (tmp_path / "original.jpg").write_bytes(jpeg)
    os.link(tmp_path / "original.jpg", films / "film.jpg")
    before = (tmp_path / "original.jpg").stat()
    found = inbox.claim(look_often(inbox).ready[0])
    after = (tmp_path / "original.jpg").stat()
    assert (tmp_path / "original.jpg").read_bytes() == found.path.read_bytes() == jpeg
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime_ns,
    )


def test_a_film_that_is_written_through_its_other_name_does_not_settle(
    inbox, films, jpeg, tmp_path
):
    (tmp_path / "original.jpg").write_bytes(jpeg)
    os.link(tmp_path / "original.jpg", films / "film.jpg")
    for second in range(20):
        with (tmp_path / "original.jpg").open("ab") as file:
            file.write(b"more")
        assert inbox.look(float(second)).ready == ()


def test_two_names_of_one_film_are_two_drops(inbox, films, site, jpeg):
    (films / "a.jpg").write_bytes(jpeg)
    os.link(films / "a.jpg", films / "b.jpg")
    found = [inbox.claim(path) for path in look_often(inbox).ready]
    assert [each.path.read_bytes() for each in found] == [jpeg, jpeg]
    assert names(films) == []


# Trees


def deep(folder, levels, name):
    """Make folders within folders, then a file in the last; nobody can name its path as a whole."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("film.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


@pytest.fixture
def removed_by_hand(films):
    """Trees that are too deep for pytest's own tidying."""
    yield
    subprocess.run(["rm", "-rf", films], check=True)


@pytest.mark.usefixtures("removed_by_hand")
@pytest.mark.parametrize(("levels", "name"), [(1500, "d"), (30, "d" * 200), (3000, "d")])
def test_a_tree_of_any_depth_stops_nobody(inbox, films, jpeg, levels, name):
    """The walk was recursive: a thousand folders in each other ended it for good."""
    deep(films, levels, name)
    (films / "z.jpg").write_bytes(jpeg)
    look = look_often(inbox)
    assert films / "z.jpg" in look.ready
    reachable = levels * (len(name) + 1) + len(str(films)) + 10 < 4096
    assert (len(look.incomplete), len(look.untakable)) == ((1, 0) if reachable else (0, 1))


@pytest.mark.usefixtures("removed_by_hand")
def test_every_command_walks_deep_trees(films):
    """`classify` and `backfill` ended with a RecursionError."""
    deep(films, 1500, "d")
    assert [path.name for path in regular_files(films)] == ["film.jpg"]


def test_an_empty_folder_and_a_folder_named_like_a_film_are_left_alone(inbox, films, jpeg):
    (films / "empty").mkdir()
    (films / "film.jpg").mkdir()
    (films / "film.jpg" / "film.jpg").write_bytes(jpeg)
    (ready,) = look_often(inbox).ready
    assert ready == films / "film.jpg" / "film.jpg"
    inbox.claim(ready)
    assert names(films) == ["empty", "film.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        b"x" * 251 + b".jpg",
        b"two\nlines",
        b"\xff\xfe",
        b"-rf",
        b"a..jpg..",
        b"a\\..\\b",
        b"\x1b[2J",
    ],
    ids=["255 bytes", "newline", "no UTF-8", "dash", "dots", "backslashes", "escape"],
)
def test_any_name_in_any_folder_is_claimed_and_can_go_back(inbox, films, site, jpeg, name):
    folder = films / os.fsdecode(b"-\n\xff" + b"y" * 252)
    folder.mkdir()
    film = folder / os.fsdecode(name)
    film.write_bytes(jpeg)
    found = inbox.claim(look_often(inbox).ready[0])
    assert found.path.read_bytes() == jpeg
    assert found.file.encode()  # any database can hold it
    assert not film.exists()


def test_a_film_of_255_bytes_that_goes_back_beside_a_newer_one_fits(inbox, films, site, jpeg):
    """Its name with the claim's was too long: it stayed in work/ until the next start."""
    film = films / ("x" * 251 + ".jpg")
    film.write_bytes(jpeg)
    (ready,) = look_often(inbox).ready
    real, newer = os.rename, []

    def rename(source, target, **where):
        real(source, target, **where)
        if not newer:  # the uploader goes on writing, and another film takes the name
            target.write_bytes(jpeg + b"older, written on")
            film.write_bytes(b"newer")
            newer.append(film)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        assert inbox.claim(ready) is None
    assert film.read_bytes() == b"newer"
    assert sorted(len(path.read_bytes()) for path in films.iterdir()) == [5, len(jpeg) + 17]
    assert names(site.site.work) == []


def test_a_film_that_cannot_go_back_stays_claimed_and_is_not_lost(inbox, films, site, jpeg):
    """Its folder was deleted meanwhile: the film lay in work/, unknown, until the next start."""
    (films / "sub").mkdir()
    film = films / "sub" / "film.jpg"
    film.write_bytes(jpeg)
    (ready,) = look_often(inbox).ready
    real = os.rename

    def rename(source, target, **where):
        real(source, target, **where)
        target.write_bytes(jpeg + b"written on")
        film.parent.rmdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        found = inbox.claim(ready)
    assert found.path.read_bytes() == jpeg + b"written on"


# Clocks


@pytest.mark.parametrize(
    "mtime_s",
    [-(2**31), -1, 0, 946684800, 4_000_000_000, 15_000_000_000],
    ids=["1901", "1969", "epoch", "2000", "2096", "2445"],
)
def test_whatever_the_file_server_takes_for_the_time_films_settle_alike(
    inbox, films, jpeg, mtime_s
):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    os.utime(film, (mtime_s, mtime_s))
    assert inbox.look(0.0).ready == inbox.look(1.0).ready == ()
    assert inbox.look(2.0).ready == (film,)


@pytest.mark.parametrize("jump_s", [3600, -3600, 31_536_000, -31_536_000])
def test_a_jump_of_the_wall_clock_neither_hastens_nor_hinders(
    inbox, films, jpeg, monkeypatch, jump_s
):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    assert inbox.look(0.0).unsettled == (film,)
    import time

    later = time.time() + jump_s
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(time, "time_ns", lambda: int(later * 1e9))
    assert inbox.look(1.0).unsettled == (film,)
    assert inbox.look(2.0).ready == (film,)


def test_a_server_whose_clock_jumps_while_a_film_is_written_makes_it_settle_again(
    inbox, films, jpeg
):
    film = films / "film.jpg"
    film.write_bytes(jpeg)
    inbox.look(0.0)
    inbox.look(1.0)
    os.utime(film, (0, 0))
    assert inbox.look(2.0).ready == ()


def test_the_time_in_which_nobody_looked_makes_no_film_late(inbox, films, jpeg):
    """A worker that was stopped for an hour called each half-copied film truncated."""
    film = films / "film.jpg"
    film.write_bytes(jpeg[:-100])
    assert look_often(inbox).incomplete == (film,)
    assert inbox.look(3610.0).incomplete == (film,)


def test_films_settle_anew_after_the_inbox_was_away(inbox, films, jpeg):
    """Nobody could write to them either: an upload goes on when the share is back."""
    film = films / "film.jpg"
    film.write_bytes(jpeg[:-100])
    look_often(inbox, end=599.0)
    films.rename(films.with_name("away"))
    with pytest.raises(FileNotFoundError):
        inbox.look(599.5)
    films.with_name("away").rename(films)
    assert inbox.look(600.0).unsettled == (film,)
    assert look_often(inbox, start=600.5, end=1100.0).incomplete == (film,)


@pytest.mark.parametrize("mtime_ns", [2**63, 2**80, -(2**63) - 1, -1])
def test_a_film_from_a_year_that_no_database_knows_is_recorded(site, card, noon, mtime_ns):
    """64 bits of nanoseconds end in 2262, filesystems do not: record raised OverflowError."""
    with hold_site(site) as engine:
        model_id = register_model(engine, card, "1", noon)
        run_id = begin_run(
            engine, kind="watch", source="inbox", model_id=model_id, device="cpu",
            precision="float32", now=noon,
        )  # fmt: skip
        found = Found("inbox", "film.jpg", site.site.work / "1" / "film.jpg", 1, mtime_ns, "1")
        (first,) = record(engine, [found], run_id, model_id, noon)
        (again,) = record(engine, [found], run_id, model_id, noon)
    assert first.id == again.id


# Names of tools

TOOLS = {
    "rsync": [".film.jpg.Xy12Zq", ".~tmp~/film.jpg", ".rsync-partial/film.jpg", "film.jpg~"],
    "WinSCP": ["film.jpg.filepart"],
    "browsers": ["film.jpg.crdownload", "film.jpg.part", "film.download/film.jpg", "a.OPDOWNLOAD"],
    "rclone, lftp, ProFTPD": ["film.jpg.a1b2c3d4.partial", ".in.film.jpg", ".in.film.jpg."],
    "sync clients": ["film.jpg.ocTransferId12.part", "~syncthing~film.jpg.tmp", "a.ffs_tmp"],
    "Office": ["~$film.docx", ".~lock.film.odt#"],
    "Windows": ["Thumbs.db", "desktop.ini", "film.jpg:Zone.Identifier", "$RECYCLE.BIN/a.jpg"],
    "macOS": ["._film.jpg", ".DS_Store", "Icon\r"],
    "servers": [
        ".nfs000000001",
        ".smbdelete123",
        ".fuse_hidden01",
        ".snapshot/a.jpg",
        "~snapshot/a",
    ],
    "storage": ["@eaDir/film.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/film.jpg", "lost+found/#12"],
    "torrents": ["film.jpg.!ut", "film.jpg.!qB", "film.jpg.aria2"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_claims_by_its_name_is_left_alone_and_counted(inbox, films, jpeg, tool):
    for name in TOOLS[tool]:
        (films / name).parent.mkdir(exist_ok=True, parents=True)
        (films / name).write_bytes(jpeg)
    look = look_often(inbox, end=700.0)
    assert (look.ready, look.unsettled, look.incomplete) == ((), (), ())
    assert look.left_alone == {"temporary name": len(TOOLS[tool])}


def test_nothing_is_said_of_temporary_names(inbox, films, jpeg, caplog):
    (films / "film.part").write_bytes(jpeg)
    look_often(inbox)
    assert caplog.records == []


@pytest.mark.parametrize(
    "name",
    ["film", "part", "a.part.jpg", "download.jpg", "tmp.dcm", "1.2.840.10008", "film (1).jpg"],
)
def test_names_of_films_are_not_taken_for_temporary_ones(name):
    assert not is_temporary(name)


def test_a_survey_counts_films_and_what_is_left_alone(films, jpeg):
    (films / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg", "c.part", ".d"):
        (films / name).write_bytes(jpeg)
    os.mkfifo(films / "pipe")
    found = survey(films)
    assert (found.files, found.unreadable) == (2, 0)
    assert found.left_alone == {"temporary name": 2, "FIFO": 1}


# Disks, shares and rights


@pytest.fixture
def refusing(monkeypatch):
    """Make a call of `os` fail for one path only."""

    def refuse(call, path, number):
        real = getattr(os, call)

        def wrapper(first, *rest, **named):
            if str(first) == str(path):
                raise OSError(number, os.strerror(number), str(path))
            return real(first, *rest, **named)

        monkeypatch.setattr(os, call, wrapper)

    return refuse


def test_a_film_that_cannot_be_opened_for_now_is_not_called_complete(
    inbox, films, jpeg, refusing, monkeypatch
):
    """EMFILE, EIO or ESTALE at the wrong moment made a half film ready, and it failed as such."""
    (films / "a.jpg").write_bytes(jpeg[:-100])
    (films / "b.jpg").write_bytes(jpeg)
    with monkeypatch.context():
        refusing("open", films / "a.jpg", errno.ESTALE)
        look = look_often(inbox)
    assert (look.ready, look.incomplete) == ((films / "b.jpg",), (films / "a.jpg",))


def test_a_film_that_nobody_lets_us_read_is_handed_on(inbox, films, jpeg, refusing):
    (films / "a.jpg").write_bytes(jpeg)
    refusing("open", films / "a.jpg", errno.EACCES)
    assert look_often(inbox).ready == (films / "a.jpg",)


def test_an_incomplete_film_is_read_ever_more_seldom(site, films, jpeg):
    (films / "a.jpg").write_bytes(jpeg)
    asked = []
    inbox = Inbox(site.site, site.watch, complete=lambda _: bool(asked.append(1)))
    look_often(inbox, end=599.0)
    assert len(asked) < 60


def test_a_rename_that_succeeded_although_the_share_says_no_is_a_claim(inbox, films, jpeg):
    """NFS: the answer was lost, the retry finds nothing (ENOENT). The film was stuck in work/."""
    (films / "film.jpg").write_bytes(jpeg)
    (ready,) = look_often(inbox).ready
    real = os.rename

    def rename(*arguments, **named):
        real(*arguments, **named)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        found = inbox.claim(ready)
    assert found.path.read_bytes() == jpeg


def test_one_look_hands_out_so_many_and_the_next_goes_on(site, films, monkeypatch):
    monkeypatch.setattr("worker.intake.inbox._READY_AT_ONCE", 3)
    for number in range(7):
        (films / f"{number}.jpg").write_bytes(b"%d" % number)
    inbox = Inbox(site.site, site.watch)
    counts = []
    for second in range(10):
        look = inbox.look(float(second))
        counts.append((len(look.ready), len(look.unsettled)))
        for path in look.ready:
            inbox.claim(path)
    assert counts[2:6] == [(3, 4), (3, 1), (1, 0), (0, 0)]


AS_NOBODY = """
import os, sys
from pathlib import Path
from worker.config import load_config
from worker.intake.inbox import Inbox
config = load_config(Path(sys.argv[1]))
inbox = Inbox(config.site, config.watch)
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # who may not even read the imports
for second in range(10):
    look = inbox.look(float(second))
claimed = [inbox.claim(path) for path in look.ready]
later = inbox.look(10.0)
print([path.name for path in look.ready], [path.name for path in later.untakable])
"""


def test_a_film_that_cannot_be_asked_for_now_stops_no_other(inbox, films, jpeg, monkeypatch):
    """One bad entry of a folder (EIO, EUCLEAN) stopped the intake of all."""
    (films / "a.jpg").write_bytes(jpeg)
    (films / "b.jpg").write_bytes(jpeg)
    real = scan_module.walk

    class Damaged:
        name, path = "a.jpg", str(films / "a.jpg")

        def stat(self, **_):
            raise OSError(errno.EUCLEAN, "Structure needs cleaning", self.path)

    def walk(*arguments):
        return (Damaged() if entry.name == "a.jpg" else entry for entry in real(*arguments))

    monkeypatch.setattr(scan_module, "walk", walk)
    look = look_often(inbox)
    assert (look.ready, look.untakable) == ((films / "b.jpg",), (films / "a.jpg",))


def test_rights_that_are_missing_stop_no_other_film(site, films, jpeg, open_to_all, repository):
    """A folder that may be listed but not entered stopped the intake of all."""
    if os.geteuid():
        pytest.skip(f"{NOT_ALLOWED} to become another user")
    for name in ("closed", "listed", "sticky", "own"):
        (films / name).mkdir()
        (films / name / f"{name}.jpg").write_bytes(jpeg)
    modes = {"closed": 0o700, "listed": 0o744, "sticky": 0o1777, "own": 0o777}
    for name, mode in modes.items():
        (films / name).chmod(mode)
        os.chown(films / name / f"{name}.jpg", 0, 0)
    open_to_all(site)
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, site.root / "config.toml"],
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    ready, untakable = ended.stdout.strip().split("] [")
    assert ready == "['own.jpg', 'sticky.jpg'"
    assert untakable == "'closed', 'listed.jpg', 'sticky.jpg']"
