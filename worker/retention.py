"""Retention: remove screened films and reports by age and by free disk, and nothing else.

Age is counted in days that the site lived: days (UTC) on which retention was looked at, after the
film was there. A clock that jumps by a year makes every film one day older, not 365; a film of a
day on which the clock stood in 1970 is as young as it is; and a worker that was off for a month
finds its films as old as it left them.

The database says first that a film or report is removed; then its files are unlinked. What a crash
leaves between the two is unlinked by the next look.
"""

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine

from worker import config as settings
from worker.errors import FilmError
from worker.filesystem import sha256_of, sync_folder
from worker.store.mark import site_marks
from worker.store.removals import (
    Day,
    StoredFilm,
    StoredReport,
    begin_removal,
    days_lived,
    end_removal,
    films_before,
    note_day,
    reports_before,
    under_way,
)

log = logging.getLogger(__name__)

AT_MOST = 1000  # films and reports are removed in one look: the inbox waits meanwhile
_LOOKED_AT = 20_000  # of each kind, in one look


@dataclass(frozen=True)
class Kept:
    """A film or a report that could be removed; `size` in bytes, `device` holds it."""

    what: StoredFilm | StoredReport
    size: int
    device: int

    @property
    def of_report(self) -> bool:
        """Whether this is page and picture; else it is a film."""
        return isinstance(self.what, StoredReport)


@dataclass(frozen=True)
class Pruned:
    """How much was removed, or would be."""

    films: int
    reports: int
    freed_bytes: int

    @property
    def anything(self) -> bool:
        """Whether there was something; then there may be more."""
        return bool(self.films or self.reports)


@dataclass(frozen=True)
class Cutoff:
    """What finished before this moment, and was there before the day began, is old."""

    before: datetime
    last_file: int

    def passes(self, what: StoredFilm | StoredReport) -> bool:
        """Whether a film or report is old."""
        return what.finished_at < self.before and what.last_file <= self.last_file


@dataclass(frozen=True)
class Cutoffs:
    """What is old enough to go, by kind and for want of space; `None`: nothing is."""

    films: Cutoff | None
    reports: Cutoff | None
    for_space: Cutoff | None


def cutoffs(limits: settings.Retention, days: Sequence[Day]) -> Cutoffs:
    """From when on films are old, given the days that the site lived, in order."""

    def before(count: int) -> Cutoff | None:
        if not count or len(days) <= count:
            return None
        first = days[-count - 1]  # a film that came just before it has lived `count` whole days
        return Cutoff(datetime.combine(first.day, time.min, UTC), first.last_file_before)

    return Cutoffs(
        films=before(limits.done_days),
        reports=before(limits.reports_days),
        for_space=before(limits.keep_days) if limits.min_free_gb else None,
    )


def choose(kept: Iterable[Kept], limits: Cutoffs, lacking: Mapping[int, int]) -> Iterator[Kept]:
    """What to remove: all that is old; then the oldest, until no device lacks bytes any more."""
    lacks = dict(lacking)
    young = []
    for each in kept:
        limit = limits.reports if each.of_report else limits.films
        if limit and limit.passes(each.what):
            lacks[each.device] = lacks.get(each.device, 0) - each.size
            yield each
        else:
            young.append(each)
    for each in sorted(young, key=lambda each: each.what.finished_at):
        allowed = limits.for_space and limits.for_space.passes(each.what)
        if allowed and lacks.get(each.device, 0) > 0:
            lacks[each.device] -= each.size
            yield each


def free_bytes(folder: Path) -> int:
    """Bytes that we may still write below a folder."""
    return shutil.disk_usage(folder).free


def plan(
    config: settings.Config,
    engine: Engine,
    now: datetime,
    free: Callable[[Path], int] = free_bytes,
) -> Iterator[Kept]:
    """What retention would remove now. Raises OSError, StoreError."""
    today = now.astimezone(UTC).date()
    days = days_lived(engine)
    if not days or days[-1].day < today:  # a dry run does not write it down
        days.append(Day(today, 0))
    limits = cutoffs(config.retention, days)
    wanted = int(config.retention.min_free_gb * 1e9)
    folders = (config.site.done, config.site.reports)
    lacking = {folder.stat().st_dev: wanted - free(folder) for folder in folders}
    if max(lacking.values()) <= 0:
        limits = replace(limits, for_space=None)
    before = [each.before for each in (limits.films, limits.reports, limits.for_space) if each]
    if not before:
        return iter(())
    return choose(_kept(config.site, engine, max(before)), limits, lacking)


def prune(
    config: settings.Config,
    engine: Engine,
    now: datetime,
    *,
    at_most: int = AT_MOST,
    free: Callable[[Path], int] = free_bytes,
) -> Pruned:
    """Remove what retention says, oldest first; again is harmless. Raises OSError, StoreError.

    `at_most` films and reports go in one look. Cut off anywhere, the next look ends what this
    one began.
    """
    note_day(engine, now.astimezone(UTC).date())
    _unlink(config.site, engine)
    chosen = list(islice(plan(config, engine, now, free), at_most))
    if not chosen:
        return Pruned(0, 0, 0)
    films = [each.what for each in chosen if isinstance(each.what, StoredFilm)]
    reports = [each.what for each in chosen if isinstance(each.what, StoredReport)]
    done = Pruned(len(films), len(reports), sum(each.size for each in chosen))
    begin_removal(engine, films=films, reports=reports, freed_bytes=done.freed_bytes, now=now)
    _unlink(config.site, engine)
    log.info(
        "retention removed films and reports",
        extra={"films": done.films, "reports": done.reports, "freed_bytes": done.freed_bytes},
    )
    return done


def _kept(site: settings.Site, engine: Engine, before: datetime) -> Iterator[Kept]:
    """What the database knows and finished before a moment.

    What bears its name but is something else is left out. What is gone already counts with no
    bytes, unless its folder is empty: then a share may be gone. Where several sites share the
    database each sees its own films only, and no film is removed.
    """
    device = site.done.stat().st_dev
    if _is_filled(site.done) and len(site_marks(engine)) < 2:
        for film in films_before(engine, before, _LOOKED_AT):
            path, claim = site.done / film.name, site.work / film.claim
            status = _status(path)
            if not claim.is_dir() and (status is None or _is_still(path, status, film)):
                yield Kept(film, status.st_size if status else 0, device)
    device = site.reports.stat().st_dev
    for report in reports_before(engine, before, _LOOKED_AT):
        paths = [site.reports / name for name in report.names]
        found = [status for path in paths if (status := _status(path))]
        if all(stat.S_ISREG(each.st_mode) for each in found) and _is_filled(paths[0].parent):
            yield Kept(report, sum(each.st_size for each in found), device)


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _status(path: Path) -> os.stat_result | None:
    """Status of a file, a link not followed; `None` if there is none."""
    try:
        return path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_still(path: Path, status: os.stat_result, film: StoredFilm) -> bool:
    """Whether a file in done/ is the film that was put there, and not another of its name."""
    if not stat.S_ISREG(status.st_mode) or status.st_size != film.size:
        return False
    if status.st_mtime_ns == film.mtime_ns:
        return True
    try:
        return sha256_of(path, film.size) == film.sha256
    except FilmError:
        return False


def _unlink(site: settings.Site, engine: Engine) -> None:
    """Unlink the files whose removal is written down; a name that is in use again is spared."""
    files = under_way(engine)
    folders = set()
    for each in files:
        path = getattr(site, each.folder) / each.name
        status = _status(path)
        if not each.taken and status and stat.S_ISREG(status.st_mode):
            path.unlink(missing_ok=True)
            folders.add(path.parent)
    for folder in sorted(folders):
        sync_folder(folder)
    if files:
        end_removal(engine, files[-1].id)
