"""Make a site, hold it alone, and open its database."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from worker.assets import asset
from worker.config import CONFIG_NAME, Config, Site, load_config
from worker.errors import ConfigError, SiteBusy, UsageError
from worker.filesystem import is_network, write_atomic
from worker.folders import local_name
from worker.marks import MARK, join_site, keep_marks, require_this_site
from worker.store.database import open_database, require_current, upgrade
from worker.store.office import only_backfill

_LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.EBADF, errno.ENOTSUP, errno.ENOSYS)
_STATUS_S = 0.5  # how long a look at the lock may take, by far
_BEFORE_CHMOD = 0o700  # folders are never open, not even for a moment
_SQLITE_URL = 'url = "sqlite:///screen.db"'


def init_site(folder: Path) -> tuple[Config, str | None]:
    """Make a new site in a new or empty folder: configuration, folders, database.

    Returns its configuration, and a note when the database had to go elsewhere because `folder`
    lies on a network filesystem. Raises UsageError when the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: name a new or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=_BEFORE_CHMOD, exist_ok=True)
    text = asset(CONFIG_NAME).read_text(encoding="utf-8")
    note = None
    if is_network(folder):
        database = f"{local_name(folder)}.db"
        text = text.replace(_SQLITE_URL, f'url = "sqlite:///{database}"')
        note = f"{folder} lies on a network share: the database is {database}, on this machine"
    folder.chmod(int(Site().dir_mode, 8))
    write_atomic(folder / CONFIG_NAME, text.encode("utf-8"), int(Site().file_mode, 8))
    config = load_config(folder / CONFIG_NAME)
    config.local_state.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in config.site.folders:
        path.mkdir(mode=_BEFORE_CHMOD)
        path.chmod(int(config.site.dir_mode, 8))
    engine = open_database(config.database, create=True)
    upgrade(engine)
    engine.dispose()
    return config, note


@contextmanager
def hold_site(config: Config) -> Iterator[Engine]:
    """Hold a site as its only worker and give its database, migrated.

    On PostgreSQL only as its only backfill: beside workers that lease what they screen.
    Raises NotASite, or SiteBusy when another worker holds the site.
    """
    if not config.database.is_file:
        with hold_for_backfill(config) as (engine, _check):
            yield engine
        return
    with alone(config):
        engine = open_database(config.database)
        try:
            upgrade(engine)
            keep_marks(config.site, engine, datetime.now(UTC))
            yield engine
        finally:
            engine.dispose()


@contextmanager
def hold_for_backfill(
    config: Config, *, leases: bool = False
) -> Iterator[tuple[Engine, Callable[[], None]]]:
    """As `hold_site`, and what raises when the site is not held any more, or its folders are gone.

    That is to be called before what a batch gave is written. Who `leases` what it screens takes a
    site again that was lost with the connection, unless another backfill has it.
    """
    if config.database.is_file:
        with hold_site(config) as engine:
            yield engine, require_this_site(config.site, engine)
        return
    with share_site(config) as engine, only_backfill(engine) as turn:
        join_site(config.site, engine, remembered_mark(config), datetime.now(UTC))
        require_marked = require_this_site(config.site, engine)
        require_turn = turn.regain if leases else turn.require

        def check() -> None:
            require_turn()
            require_marked()

        yield engine, check


def remembered_mark(config: Config) -> Path:
    """Where this host remembers which site of a shared database its folders are."""
    return config.local_state.with_name(config.local_state.name + MARK)


@contextmanager
def share_site(config: Config) -> Iterator[Engine]:
    """Open a site on PostgreSQL as one of its workers and give its database, migrated.

    What SQLite's lock on work/ does is done by locks of the database (`worker.cluster`).
    Raises NotASite, or SiteBusy when a site that works alone takes films out of the inbox.
    """
    config.require_site()
    _require_one_filesystem(config)
    with _inbox_held(config.site.inbox, alone=False):
        engine = open_database(config.database)
        try:
            upgrade(engine)
            config.local_state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield engine
        finally:
            engine.dispose()


@contextmanager
def alone(config: Config) -> Iterator[None]:
    """Hold a site as its only worker. Raises NotASite, or SiteBusy when another one does."""
    config.require_site()
    _require_one_filesystem(config)
    descriptor = os.open(config.site.work / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        if not _locked(descriptor, patience_s=_STATUS_S):
            raise SiteBusy(
                f"another worker (process {_holder(descriptor)}) holds {config.root}: "
                "'screen status' shows what it does; stop it first, one site has one worker"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        with _inbox_held(config.site.inbox):
            yield
    finally:
        os.close(descriptor)


@contextmanager
def _inbox_held(inbox: Path, *, alone: bool = True) -> Iterator[None]:
    """Keep other sites from taking films out of this inbox, or out of a folder above or below.

    The inbox is locked for this worker alone, unless told otherwise, the folders above it together
    with others: so an inbox inside another one is refused too. Folders above that may not be read
    are passed over, and so are filesystems without locks (flock(2)): a claim by rename is exclusive
    there as well.
    Raises SiteBusy.
    """
    with ExitStack() as locks:
        for folder in (inbox.resolve(), *inbox.resolve().parents):
            own = folder == inbox.resolve()
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                locks.callback(os.close, descriptor)
                fcntl.flock(
                    descriptor, (fcntl.LOCK_EX if own and alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
                )
            except BlockingIOError as error:
                raise SiteBusy(
                    f"another site takes its films out of {folder}"
                    f"{'' if own else f', which holds {inbox}'}: give each site an inbox of its own"
                ) from error
            except OSError as error:
                if own and error.errno not in _NO_LOCKS:
                    raise
        yield


def _require_one_filesystem(config: Config) -> None:
    """Films move by rename; raises ConfigError when that cannot work."""
    site = config.site
    device = site.inbox.stat().st_dev
    for name, folder in (("work", site.work), ("done", site.done), ("failed", site.failed)):
        if folder.stat().st_dev != device:
            raise ConfigError(
                f"site.{name} = {folder} lies on another filesystem than the inbox: films are "
                "moved by rename, put inbox, work, done and failed on one"
            )


def _locked(descriptor: int, patience_s: float) -> bool:
    """Take the lock, trying again for a moment: `holder` has it while it looks."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(patience_s / 10)
        else:
            return True


def holder(config: Config) -> int | None:
    """Process id of the worker that holds the site, `None` when nobody does."""
    try:
        descriptor = os.open(config.site.work / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> int:
    return int(os.pread(descriptor, 32, 0) or b"0")


@contextmanager
def read_site(config: Config) -> Iterator[Engine]:
    """Give the site's database for reading, beside a running worker.

    Raises StoreError when it is missing or its schema is another one.
    """
    engine = open_database(config.database, read_only=True)
    try:
        require_current(engine)
        yield engine
    finally:
        engine.dispose()
