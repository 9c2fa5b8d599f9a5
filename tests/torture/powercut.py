"""Cut the power of a worker's disks between two system calls, and judge what comes of it.

The site and its database lie on two ext4 images of their own. At a step of the protocol the worker
is frozen and the images are copied: what the kernel had not written to the device by then is not
in the copy, as after a power loss. The copies are mounted (the journal is replayed), and the worker
lives on. One disk may lose its power alone, as when a file server does.
"""

import itertools
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torture import judge
from tests.torture.broken import UNSYNCED
from tests.torture.films import Fed, Kind, draw
from tests.torture.sweep import NOT_DONE, Tally, fork, wait_for
from tests.torture.victim import Blow, live
from worker.failpoints import FAILPOINTS
from worker.site import init_site

_IMAGE_MB = 24
_LIVES = 20
_OPTIONS = "loop,noatime,noauto_da_alloc"  # no mercy for files renamed without a sync


@dataclass(frozen=True)
class Cut:
    """One history: the worker is frozen there, and these disks lose their power."""

    seed: int
    point: str
    nth: int
    disks: tuple[str, ...]
    synced: bool  # whether the uploader saw to it that its films were on the disk
    broken: str | None = None


def cuts(seed: int, broken: str | None = None) -> Iterator[Cut]:
    """Endless: every failpoint in turn, which disks and which time drawn at random."""
    rng = random.Random(seed)
    for number in itertools.count():
        disks = rng.choice((("site", "database"), ("site",), ("database",)))
        nth = rng.choice((1, 1, 2, 4))
        point = FAILPOINTS[number % len(FAILPOINTS)]
        yield Cut(seed + number, point, nth, disks, rng.random() < 0.5, broken)


class PowerArena:
    """Two disks in a folder that should lie in memory; needs the right to mount."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._scratch = folder, folder / "scratch"
        self._mounted: list[str] = []
        self.tally = Tally()
        for name in ("site", "database"):
            (folder / name).mkdir()
            image = self._template(name)
            with image.open("wb") as file:
                file.truncate(_IMAGE_MB << 20)
            _run("mkfs.ext4", "-q", "-m", "0", "-J", "size=4", str(image))
        self._mount(templates=True)
        self._make_site()
        self._unmount()

    @property
    def root(self) -> Path:
        """The site."""
        return self._folder / "site" / "clinic"

    def _template(self, name: str) -> Path:
        return self._folder / f"{name}.template"

    def _image(self, name: str) -> Path:
        return self._folder / f"{name}.img"

    def _make_site(self) -> None:
        config, _ = init_site(self.root)
        database = self._folder / "database" / "screen.db"
        shutil.move(self.root / "screen.db", database)
        assert config.source is not None
        config.source.write_text(
            "[watch]\nsettle_s = 0\n[batch]\nsize = 3\nmax_age_s = 0\n"
            f"[database]\nurl = 'sqlite:///{database}'\n"
        )

    def _mount(self, *, templates: bool = False) -> None:
        for name in ("site", "database"):
            image = self._template(name) if templates else self._image(name)
            _run("mount", "-o", _OPTIONS, str(image), str(self._folder / name))
            self._mounted.append(name)

    def _unmount(self) -> None:
        while self._mounted:
            _run("umount", str(self._folder / self._mounted.pop()))

    def hold(self, cut: Cut) -> list[str]:
        """Hold one trial; return what was wrong."""
        rng = random.Random(cut.seed)
        for name in ("site", "database"):
            shutil.copyfile(self._template(name), self._image(name))
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        self._mount()
        try:
            faults = self._history(cut, rng)
        finally:
            self._unmount()
        self.tally.trials += 1
        self.tally.faults += [f"{cut}: {fault}" for fault in faults]
        return faults

    def _history(self, cut: Cut, rng: random.Random) -> list[str]:
        fed = [each for each in draw(rng, rng.randint(3, 8), []) if each.kind != Kind.KILLER]
        for each in fed:
            each.drop(self.root / "inbox")
        if cut.synced:
            os.sync()
        self.tally.lives += 1
        pid = fork(lambda: self._live(cut, Blow("freeze", cut.point, cut.nth)))
        status = wait_for(pid)
        if os.WIFSTOPPED(status):
            fed = self._cut(cut, pid, fed)
        for _ in range(_LIVES):
            self.tally.lives += 1
            if wait_for(fork(lambda: self._live(cut, None))) == 0:
                database = self._folder / "database" / "screen.db"
                return judge.at_the_end(judge.History(self.root, database, fed))
        return [f"{NOT_DONE} {_LIVES} lives"]

    def _live(self, cut: Cut, blow: Blow | None) -> int:
        if cut.broken:
            UNSYNCED[cut.broken].break_it()
        return live(self.root, self._scratch, None, blow, lambda _name: None, restless=False)

    def _cut(self, cut: Cut, pid: int, fed: Sequence[Fed]) -> list[Fed]:
        """Lose the power; return the films that the uploader had not lost by then himself."""
        for name in cut.disks:
            shutil.copyfile(self._image(name), self._folder / f"{name}.cut")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._unmount()
        for name in cut.disks:
            (self._folder / f"{name}.cut").replace(self._image(name))
        self._mount()
        self.tally.kills[cut.point] += 1
        return list(fed) if cut.synced else self._taken_over(fed)

    def _taken_over(self, fed: Sequence[Fed]) -> list[Fed]:
        """Films that are there, or that the worker had recorded as its own.

        What was neither synced by the uploader nor recorded by us is the uploader's loss; its
        remains are taken away.
        """
        with judge.opened(self._folder / "database" / "screen.db") as database:
            claims = {row["claim"] for row in database.execute("SELECT claim FROM files")}
            names = [row["file"] for row in database.execute("SELECT file FROM files")]
        contents = {each.content for each in fed}
        there = []
        for name in ("inbox", "work"):
            for path in (self.root / name).rglob("*"):
                mine = path.parent.name in claims or path.name.startswith(".")
                if path.is_file() and not mine and path.read_bytes() not in contents:
                    path.unlink()
                elif path.is_file():
                    there.append((path.name, path.read_bytes()))
        return [each for each in fed if each.name in names or _is_there(each, there)]


def _is_there(each: Fed, there: Sequence[tuple[str, bytes]]) -> bool:
    return (each.name.rpartition("/")[2], each.content) in there


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
