"""Put a backup or a copy in the place of the site's database; find films that it does not know."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Config, Database, Site
from worker.errors import SiteBusy, StoreError, UsageError
from worker.failed import site_of_several
from worker.filesystem import sync_folder
from worker.folders import display_name, regular_files
from worker.intake.deliver import deliver
from worker.intake.names import is_temporary
from worker.intake.shelf import SIDECAR_SUFFIX
from worker.marks import require_this_site
from worker.progress import Tell, nobody
from worker.site import alone
from worker.store.backup import (
    bring_up_to_date,
    close_up,
    forget_moved,
    known_names,
    restorable,
)
from worker.store.database import open_database, require_current, revisions, upgrade
from worker.store.dialect import is_server
from worker.store.mark import claims_of_others
from worker.store.transfer import Carried, carry_over
from worker.store.workers import living_workers

_LOGS = ("-wal", "-shm")
_SIDECAR_BYTES = 1 << 16


@dataclass(frozen=True)
class Restored:
    """Where the replaced database lies now, `None` if there was none.

    `forgotten` files were on their way in the backup and have come to an end since.
    """

    aside: Path | None
    forgotten: int


def restore(config: Config, backup: Path, now: datetime, tell: Tell = nobody) -> Restored:
    """Replace the site's database by a backup; the old one is kept aside, with its WAL.

    Raises SiteBusy while a worker holds the site, StoreError when the backup is not sound or the
    database is in use; nothing has changed then. Cut off anywhere, either database is in place.
    """
    with alone(config), restorable(backup, config.database, tell) as copy:
        forgotten = _tidy(config, copy)
        aside = _set_aside(config.database.file, now)
        for rest in _LOGS:  # else SQLite would apply the old log to the new file
            Path(f"{config.database.file}{rest}").unlink(missing_ok=True)
        copy.replace(config.database.file)
        sync_folder(config.database.file.parent)
    return Restored(aside, forgotten)


def settle(config: Config) -> int:
    """After a server's tools put a backup in place; gives how many files were forgotten.

    Raises SiteBusy while a worker holds the site, or one of any host lives, ShareGone when the
    folders are not those of a site of this database. Again is harmless.
    """
    with alone(config):
        engine = open_database(config.database)
        try:
            if revisions(engine)[0] is None:
                raise StoreError(f"{config.database.shown_url} holds no database of Screen")
            upgrade(engine)
            _require_no_workers(config, engine)
            require_this_site(config.site, engine)
            bring_up_to_date(engine)
            return _forget(config, engine)
        finally:
            engine.dispose()


def _require_no_workers(config: Config, engine: Engine) -> None:
    """Raise SiteBusy when a worker gave a sign of life, wherever it runs."""
    lease_s = config.cluster.lease_s
    living = living_workers(engine, lease_s) if is_server(engine) else []
    if living:
        raise SiteBusy(
            f"{len(living)} workers of this database lived less than {lease_s:g} s ago: stop those "
            f"of all hosts, wait {lease_s:g} s, then run it again"
        )


def _tidy(config: Config, copy: Path) -> int:
    engine = open_database(config.database.model_copy(update={"url": f"sqlite:///{copy}"}))
    try:
        forgotten = _forget(config, engine)
    finally:
        engine.dispose()
    close_up(copy)
    return forgotten


def _forget(config: Config, engine: Engine) -> int:
    """Forget what was on its way when the backup was made and is not in work/ now.

    What lies in work/ of other sites of the database is theirs to look for.
    """
    claims = {path.name for path in config.site.work.iterdir() if path.is_dir()}
    mark = site_of_several(config.site, engine)
    if mark is not None:
        claims |= claims_of_others(engine, mark)
    return forget_moved(engine, claims)


def _set_aside(file: Path, now: datetime) -> Path | None:
    """Give the database a second name, with its log if it is too damaged to take that in."""
    if not file.exists():
        return None
    aside = file.with_name(f"{file.name}.before-restore-{now.astimezone(UTC):%Y%m%dT%H%M%S}")
    journal, kept = Path(f"{file}-wal"), Path(f"{aside}-wal")
    if journal.exists():
        shutil.copy(journal, kept)  # first: SQLite throws away a log that it cannot make sense of
    try:
        if close_up(file):
            kept.unlink(missing_ok=True)
    except StoreError:
        kept.unlink(missing_ok=True)
        raise
    os.link(file, aside)
    sync_folder(file.parent)
    return aside


def copy_to(config: Config, target: Database, tell: Tell = nobody) -> list[Carried]:
    """Copy the site's database into another one, which is empty; gives the tables.

    Raises SiteBusy while a worker holds the site, and what `store.transfer.carry_over` raises.
    """
    if target.url == config.database.url:
        raise UsageError("that is the site's own database: name a new, empty database")
    with alone(config):
        source = open_database(config.database)
        into = open_database(target, create=True)
        try:
            require_current(source)
            upgrade(into)
            return carry_over(source, into, tell)
        finally:
            source.dispose()
            into.dispose()


@dataclass(frozen=True)
class Unknown:
    """A film in done/ or failed/ that the database does not know."""

    folder: str
    path: Path


def unknown_films(site: Site, engine: Engine) -> Iterator[Unknown]:
    """Films in done/ and failed/ that the database does not know, sidecars left out."""
    for name in ("done", "failed"):
        folder = getattr(site, name)
        known = known_names(engine, failed=name == "failed")
        for path in regular_files(folder):
            own = is_temporary(path.name) or (name == "failed" and _is_sidecar(path))
            if not own and display_name(path.relative_to(folder)) not in known:
                yield Unknown(name, path)


def _is_sidecar(path: Path) -> bool:
    """Whether a file is our note on a film that failed, and no film itself."""
    if not path.name.endswith(SIDECAR_SUFFIX) or path.stat().st_size > _SIDECAR_BYTES:
        return False
    try:
        facts = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(facts, dict) and {"reason", "failed_at", "strikes"} <= facts.keys()


def feed_again(site: Site, unknown: Unknown) -> Path:
    """Give an unknown film back to the inbox, never over another; return where it lies now.

    Raises OSError.
    """
    path = unknown.path
    stem, suffix = path.stem, path.suffix
    names = (path.name, *(f"{stem}-again-{number}{suffix}" for number in range(1, 100)))
    place = deliver(path, site.inbox, names)
    if place is None:
        raise FileExistsError(errno.EEXIST, "every name for it in the inbox is taken", str(path))
    if unknown.folder == "failed":
        path.with_name(path.name + SIDECAR_SUFFIX).unlink(missing_ok=True)
    sync_folder(site.inbox)
    sync_folder(path.parent)
    return place
