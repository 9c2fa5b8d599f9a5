"""`reports/results/`: all results in the order they came, a page for each 1,000 files.

A page is written again when something on it changed, and when it is missing; it survives a power
loss before the database calls it written. An index leads to them.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

from sqlalchemy import Engine

from worker.config import Site
from worker.filesystem import sync_folder, write_atomic
from worker.marks import require_this_site
from worker.report.environment import render
from worker.report.view import WorklistRow
from worker.report.wording import SLUGS, Group, groups
from worker.report.worklist import Entry, slug_of
from worker.store.lists import LIST_FILES, List, Written, keep_written, lists
from worker.store.queries import Result, results_in

FOLDER = "results"


@dataclass(frozen=True)
class Month:
    """Pages whose last result came to an end in one month, newest first."""

    name: str
    pages: tuple[List, ...]


def page_name(block: int) -> str:
    """Name of the page of files from `block` × 1,000 on, below reports/results/."""
    return f"{block:06}.html"


def row_of(result: Result) -> WorklistRow:
    """A result as pages show it."""
    return WorklistRow(
        record=result.record,
        labels=result.labels,
        status=result.status,
        page=result.report if result.status != "failed" else None,
        run=result.run,
        at=result.finished_at,
        removed_at=result.page_removed_at,
        left_out=result.report_left_out,
        resolution=result.resolution,
        file_id=result.file_id,
        verdict=result.verdict,
    )


def write_results(site: Site, engine: Engine, now: datetime, at_most: int | None) -> None:
    """Write the pages that are due, `at_most` of them, and the index. Raises OSError, StoreError.

    The caller keeps others from doing so at the same time, and has made the folder.
    """
    folder, known = site.reports / FOLDER, lists(engine)
    there = {path.name for path in folder.glob("??????*.html")}
    due = [each for each in known if each.due or page_name(each.block) not in there]
    newest_first = due[::-1][:at_most]
    require_this_site(site, engine)
    written = [_write(site, folder, engine, each, now) for each in newest_first]
    if written:
        sync_folder(folder)
        keep_written(engine, written)
        known = lists(engine)
    listed = [each for each in known if each.results]
    index = render("results.html", months=_months(listed), generated_at=now, files=LIST_FILES)
    write_atomic(folder / "index.html", index.encode("utf-8"), int(site.file_mode, 8))
    for name in there - {page_name(each.block) for each in known} - {"index.html"}:
        (folder / name).unlink(missing_ok=True)


def remove_results(site: Site) -> None:
    """Remove the pages of a site that has become so small that its worklist holds everything."""
    for path in (site.reports / FOLDER).glob("*.html"):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it was never there, or somebody keeps something in it
        (site.reports / FOLDER).rmdir()


def results_page(page: List, rows: Sequence[WorklistRow], generated_at: datetime) -> str:
    """Render one page; `rows` in the order they came.

    It does not say which model is in use now: that would not stay true.
    """
    entries = entries_of(rows)
    first = page.block * LIST_FILES
    return render(
        "list.html",
        scripts=("worklist.js",),
        entries=entries,
        groups=groups_of(entries),
        reviews=any(row.verdict for row in rows),
        first=first,
        last=first + LIST_FILES - 1,
        model=None,
        generated_at=generated_at,
    )


def entries_of(rows: Sequence[WorklistRow]) -> list[tuple[Entry, Group]]:
    """Rows with the groups they belong to, in their order."""
    group_of = {group.slug: group for group in groups(row.labels for row in rows)} if rows else {}
    return [(Entry(row, slug_of(row)), group_of[slug_of(row)]) for row in rows]


def groups_of(entries: Sequence[tuple[Entry, Group]]) -> list[Group]:
    """The groups that occur, most urgent first."""
    found = {group.slug: group for _, group in entries}
    return sorted(found.values(), key=lambda group: SLUGS.index(group.slug))


def _write(
    site: Site,
    folder: Path,
    engine: Engine,
    page: List,
    now: datetime,
) -> Written:
    first = page.block * LIST_FILES
    rows = [row_of(each) for each in results_in(engine, first, first + LIST_FILES - 1)]
    html = results_page(page, rows, now).encode("utf-8")
    write_atomic(folder / page_name(page.block), html, int(site.file_mode, 8), sync=True)
    moments = [row.at for row in rows]
    ends = (min(moments), max(moments)) if rows else (None, None)
    return Written(page.block, page.changes, len(rows), *ends)


def _months(pages: Sequence[List]) -> list[Month]:
    """Newest first; a clock that jumped may bring a month twice."""
    newest_first = sorted(pages, key=lambda page: page.block, reverse=True)
    return [
        Month(name, tuple(members))
        for name, members in groupby(newest_first, key=lambda page: f"{page.last_at:%B %Y}")
    ]
