"""Inbox, store and pipeline against a model of what must be true, through any order of trouble.

Uploaders drop, grow, replace and remove; time passes; the worker turns, is killed at any step,
is refused by disk or database, is stopped and starts again. After each step every content that was
fed lies in exactly one place; after a quiet while each has ended, once, and nobody is blamed.
"""

import errno
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from tests.standin import StandInScreener, make_card
from tests.ward import Killed, Ward
from worker.config import load_config
from worker.errors import CorruptFile, StoreError
from worker.report.site import broken_pages
from worker.site import hold_site, init_site
from worker.store.work import end_run

NOON = datetime(2026, 5, 3, 12, 0, 0, tzinfo=UTC)
MEMORY = Path("/dev/shm")  # syncing costs nothing there, and nobody pulls the plug here


def picture(shade: int) -> bytes:
    return cv2.imencode(".jpg", np.full((8, 8), shade, np.uint8))[1].tobytes()


WHOLE = [picture(shade) for shade in (10, 90, 170)]
HALVES = {content[: len(content) // 2] for content in WHOLE}
BAD = [b"bad one", b"bad two"]
GOOD = [*WHOLE, b"film one", b"film two", b"film three"]
CHANGES = [*GOOD, *sorted(HALVES)]
FILMS = {*GOOD, *BAD, *HALVES}
TEMPORARY = {"c.jpg.part", ".c.jpg"}
NAMES = [
    *("a.jpg", "b.jpg", "sub/a.jpg", "a.jpg.json", "film-1.jpg", "film-2", "a-2.jpg"),
    *("x" * 246 + ".jpg", "b." + "e" * 250, "Röntgen\n.jpg"),
]
DROPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(GOOD + BAD)), min_size=1, max_size=4
)
FILE_STEPS = [f"os.{name}" for name in ("rename", "replace", "mkdir", "rmdir", "fsync", "unlink")]
STORE_STEPS = [
    *("worker.daemon.record", "worker.daemon.release", "worker.daemon.finished_files"),
    *("worker.recovery.waiting_files", "worker.recovery.claimed_file"),
    "worker.chores.write_worklist",
    *("worker.pipeline.begin_attempt", "worker.pipeline.finish"),
    "worker.pipeline.screened_contents",
]
OTHER_STEPS = [
    *("worker.shelves.put_away", "worker.shelves.write_sidecar", "worker.pipeline.write_pictures"),
    *("worker.pipeline.write_page", "worker.admission.sha256_of"),
]


class Trouble:
    """Something that happens at the nth time that the worker comes to a step."""

    def __init__(self, step: str, nth: int, *, after: bool, happens) -> None:
        self.step, self.after, self._happens = step, after, happens
        self._left = nth

    def __enter__(self):
        module, _, name = self.step.rpartition(".")
        self._stack = ExitStack()
        real = getattr(sys.modules[module], name)

        def step(*arguments, **named):
            self._left -= 1
            if self._left != 0:
                return real(*arguments, **named)
            if not self.after:
                self._happens(*arguments)
                return real(*arguments, **named)
            given = real(*arguments, **named)
            self._happens(*arguments)
            return given

        self._stack.enter_context(mock.patch(self.step, step))
        return self

    def __exit__(self, *error):
        self._stack.close()


class Site(RuleBasedStateMachine):
    """`fed` counts the files that must exist, by content; all else is read from the site."""

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        root = Path(tempfile.mkdtemp(prefix="screen-", dir=MEMORY if MEMORY.is_dir() else None))
        self.stack.callback(shutil.rmtree, root)
        config, _ = init_site(root / "site")
        (config.root / "config.toml").write_text(
            "[watch]\nsettle_s = 0\n[batch]\nsize = 2\nmax_age_s = 0\n"
        )
        config = load_config(config.root / "config.toml")
        engine = self.stack.enter_context(hold_site(config))
        screener = StandInScreener(make_card())
        screener.errors = {content: [CorruptFile("broken")] for content in BAD}
        self.ward = Ward(config, engine, screener, NOON)
        self.inbox, self.site = config.site.inbox, config.site
        self.fed: Counter[bytes] = Counter()
        self.alive = True

    def teardown(self):
        with self.stack:
            if sys.exc_info()[0] is None:  # else the example has failed already
                self.after_a_quiet_while()

    # What uploaders do.

    def put(self, name: str, content: bytes, *, replace: bool) -> None:
        """Write a file, or put a whole one in its place; what stood there is the uploader's."""
        path = self.inbox / name
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            self.fed[path.read_bytes()] -= 1
        self.fed[content] += 1
        if not replace:
            path.write_bytes(content)
            return
        beside = path.with_name(".upload")
        beside.write_bytes(content)
        beside.rename(path)

    @rule(
        name=st.sampled_from(NAMES),
        content=st.sampled_from(GOOD + BAD),
        replace=st.booleans(),
    )
    def drop(self, name, content, replace):
        self.put(name, content, replace=replace)

    @rule(name=st.sampled_from(["grows.jpg", "a.jpg"]), content=st.sampled_from(WHOLE))
    def begin_to_copy(self, name, content):
        self.put(name, content[: len(content) // 2], replace=False)

    @rule(content=st.sampled_from(WHOLE))
    def copy_on(self, content):
        half = content[: len(content) // 2]
        for name in ("grows.jpg", "a.jpg"):
            path = self.inbox / name
            if path.exists() and path.read_bytes() == half:
                self.put(name, content, replace=False)

    @rule(content=st.sampled_from(GOOD), name=st.sampled_from(sorted(TEMPORARY)))
    def upload_under_a_temporary_name(self, name, content):
        self.put(name, content, replace=False)

    @rule(name=st.sampled_from(sorted(TEMPORARY)))
    def finish_the_upload(self, name):
        path, final = self.inbox / name, self.inbox / "c.jpg"
        if path.exists():
            if final.exists():
                self.fed[final.read_bytes()] -= 1
            path.rename(final)

    @rule(name=st.sampled_from(NAMES))
    def take_back(self, name):
        path = self.inbox / name
        if path.exists():
            self.fed[path.read_bytes()] -= 1
            path.unlink()

    # What the worker does, and what happens to it.

    @precondition(lambda self: self.alive)
    @rule(count=st.integers(1, 4))
    def work(self, count):
        self.ward.turns(count)

    @precondition(lambda self: self.alive)
    @rule()
    def end_in_order(self):
        """As `screen watch` does: put away, end the run; then somebody starts it again."""
        self.ward.daemon.stop()
        self.ward.daemon.finish_up()
        end_run(self.ward.engine, self.ward.daemon._run_id, NOON)
        self.alive = False

    @precondition(lambda self: not self.alive)
    @rule()
    def start_again(self):
        self.ward.restart()
        self.ward.daemon.recover()
        self.alive = True

    @precondition(lambda self: self.alive)
    @rule(
        step=st.sampled_from(FILE_STEPS + STORE_STEPS + OTHER_STEPS),
        nth=st.integers(1, 4),
        after=st.booleans(),
        recovers=st.booleans(),
        drops=DROPS,
    )
    def kill(self, step, nth, after, recovers, drops):
        self.under(Trouble(step, nth, after=after, happens=self.die), drops, recovers)

    @precondition(lambda self: self.alive)
    @rule(
        step=st.sampled_from(FILE_STEPS + OTHER_STEPS),
        nth=st.integers(1, 4),
        code=st.sampled_from([errno.ENOSPC, errno.EIO, errno.ESTALE]),
        recovers=st.booleans(),
        drops=DROPS,
    )
    def disk_refuses(self, step, nth, code, recovers, drops):
        error = OSError(code, os.strerror(code))
        self.under(Trouble(step, nth, after=False, happens=raising(error)), drops, recovers)

    @precondition(lambda self: self.alive)
    @rule(
        step=st.sampled_from(STORE_STEPS),
        nth=st.integers(1, 4),
        recovers=st.booleans(),
        drops=DROPS,
    )
    def database_refuses(self, step, nth, recovers, drops):
        error = StoreError("the database refused: database is locked")
        self.under(Trouble(step, nth, after=False, happens=raising(error)), drops, recovers)

    @precondition(lambda self: self.alive)
    @rule(step=st.sampled_from(STORE_STEPS + OTHER_STEPS), nth=st.integers(1, 4), drops=DROPS)
    def is_told_to_stop(self, step, nth, drops):
        self.under(
            Trouble(step, nth, after=True, happens=lambda *_: self.ward.daemon.stop()), drops
        )
        if self.ward.daemon.stopped:
            self.end_in_order()

    @precondition(lambda self: self.alive)
    @rule(content=st.sampled_from(CHANGES), nth=st.integers(1, 3), drops=DROPS)
    def a_film_changes_while_it_is_claimed(self, content, nth, drops):
        """Between the last look and the rename: the file goes back and settles again."""

        def change(folder, name, _claimed):
            path = Path(f"/proc/self/fd/{folder}").resolve() / name
            self.put(str(path.relative_to(self.inbox)), content, replace=False)

        self.under(Trouble("worker.intake.inbox.move_in", nth, after=False, happens=change), drops)

    @staticmethod
    def die(*_):
        raise Killed

    def under(self, trouble: Trouble, drops, recovers: bool = False) -> None:
        """Some turns, or a start, under trouble. Refusals are met as `daemon.run` meets them."""
        for name, content in drops:
            self.put(name, content, replace=True)
        steps = itertools.repeat(self.ward.turns, 2)
        if recovers:
            self.ward.restart()
            steps = (self.ward.daemon.recover, self.ward.turns)
        try:
            with trouble:
                for step in steps:
                    if not self.until_it_works(step):
                        break
        except Killed:
            self.alive = False

    @staticmethod
    def until_it_works(step) -> bool:
        for _ in range(5):
            try:
                step()
            except (OSError, StoreError):
                continue
            return True
        raise AssertionError("the trouble was over, and still the worker was refused")

    # What must be true.

    @initialize()
    def begin(self):
        self.ward.daemon.recover()

    @invariant()
    def every_content_lies_in_exactly_one_place(self):
        assert self.found() == +self.fed

    @invariant()
    def what_is_still_written_is_left_alone(self):
        for folder in (self.site.work, self.site.done, self.site.failed):
            assert HALVES.isdisjoint(films(folder))

    @invariant()
    def nobody_is_blamed(self):
        assert not any(self.rows("SELECT sum(strikes), sum(worker_crashes) FROM files")[0])
        assert {row[0] for row in self.rows("SELECT reason FROM failures")} <= {"corrupt-file"}

    def after_a_quiet_while(self):
        if not self.alive:
            self.start_again()
        self.ward.turns(6)
        self.every_content_lies_in_exactly_one_place()
        left = [path for path in self.inbox.rglob("*") if path.is_file()]
        assert {path.name for path in left if path.read_bytes() not in HALVES} <= TEMPORARY
        assert self.ward.claims() == []
        self.every_film_ended_once()
        self.every_name_leads_to_its_film()
        assert broken_pages(self.site, self.ward.engine) == []

    def every_film_ended_once(self):
        ended = Counter(films(self.site.done) + films(self.site.failed))
        rows = Counter(
            {(r.sha256, r.state): r.n for r in self.rows(
                "SELECT sha256, state, count(*) AS n FROM files GROUP BY 1, 2")}
        )  # fmt: skip
        expected: Counter[tuple[str, str]] = Counter()
        for content, count in ended.items():
            sha256 = hashlib.sha256(content).hexdigest()
            if content in BAD:
                expected[sha256, "failed"] = count
            else:
                expected[sha256, "screened"] = 1
                expected[sha256, "duplicate"] = count - 1
        assert rows == +expected

    def every_name_leads_to_its_film(self):
        for row in self.rows("SELECT sha256, state, final_name FROM files"):
            folder = self.site.failed if row.state == "failed" else self.site.done
            content = (folder / row.final_name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row.sha256
            if row.state == "failed":
                sidecar = (folder / (row.final_name + ".json")).read_text()
                assert row.sha256 in sidecar

    def found(self) -> Counter[bytes]:
        site = self.site
        folders = (site.inbox, site.work, site.done, site.failed)
        return Counter(itertools.chain.from_iterable(map(films, folders)))

    def rows(self, sql):
        with self.ward.engine.connect() as connection:
            return connection.execute(text(sql)).all()


def films(folder: Path) -> list[bytes]:
    """Contents of all films below a folder; the program's own files are none."""
    contents = (path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return [content for content in contents if content in FILMS]


def raising(error):
    def refuse(*_):
        raise error

    return refuse


def test_whatever_happens_every_film_ends_once_in_its_place():
    run_state_machine_as_test(
        Site,
        settings=settings(
            max_examples=int(os.environ.get("SCREEN_EXAMPLES", "40")),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
