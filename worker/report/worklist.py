"""The order of the worklist, its groups and its pages. Pure: rows in, rows out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from worker.records import Role, role_of
from worker.report.view import WorklistRow
from worker.report.wording import SLUGS, Group, groups
from worker.store.worklist import Counts

PAGE_ROWS = 500

_RANK = {slug: rank for rank, slug in enumerate(SLUGS)}
_SCORED = {Role.POSITIVE, Role.INDETERMINATE, Role.NEGATIVE}


@dataclass(frozen=True)
class Entry:
    """A row, the group it stands in, and for a duplicate the file whose report it shares."""

    row: WorklistRow
    slug: str
    first_file: str | None = None


@dataclass(frozen=True)
class Section:
    """The rows of one group that stand on one page; `total` counts the group over all pages.

    `left_out` of its films stand on no page: the worklist holds the most urgent of many.
    """

    group: Group
    entries: tuple[Entry, ...]
    total: int
    continued: bool
    left_out: int = 0


@dataclass(frozen=True)
class Tile:
    """How many films a group has, and where its first row stands (`None` when it has none)."""

    group: Group
    count: int
    href: str | None


@dataclass(frozen=True)
class Newest:
    """Until when, and up to which file, results stand in a list."""

    at: datetime
    file_id: int


@dataclass(frozen=True)
class WorklistPage:
    """One page: its file name, the numbers of its first and last row, and its sections.

    `groups` are those of the whole worklist, in their order. `newest` is `None` without rows.
    """

    name: str
    first: int
    last: int
    groups: tuple[Group, ...]
    sections: tuple[Section, ...]

    @property
    def newest(self) -> Newest | None:
        """The newest of its rows."""
        return newest(entry.row for section in self.sections for entry in section.entries)


def newest(rows: Iterable[WorklistRow]) -> Newest | None:
    """The newest of some rows, by the clock and by number: the clock may have jumped."""
    marks = [(row.at, row.file_id) for row in rows]
    if not marks:
        return None
    return Newest(*map(max, zip(*marks, strict=True)))


def slug_of(row: WorklistRow) -> str:
    """The group of a row by its own record: failures apart, all others by what they mean."""
    return "failed" if row.status == "failed" else role_of(row.record.decision, row.labels)


def by_suspicion(rows: Iterable[WorklistRow]) -> list[WorklistRow]:
    """Sort as `wording.sorting` says: falling score where there is an answer, else newest first."""
    newest_first = sorted(rows, key=lambda row: row.at, reverse=True)
    return sorted(newest_first, key=_urgency)


def pages(
    rows: Sequence[WorklistRow], page_rows: int = PAGE_ROWS, counts: Counts | None = None
) -> list[WorklistPage]:
    """Cut the sorted rows into pages; an empty worklist still has its first page.

    `counts` are those of all results where `rows` are only the most urgent.
    """
    ordered = _keep_duplicates_together(by_suspicion(rows))
    totals = Counter(entry.slug for entry in ordered)
    listed = Counter(slug_of(row) for row in rows if row.status != "duplicate")
    left_out = {slug: n - listed[slug] for slug, n in counts.films.items()} if counts else {}
    shown = groups(counts.labels if counts else (row.labels for row in rows))
    made = []
    for number, start in enumerate(range(0, max(len(ordered), 1), page_rows), start=1):
        before = ordered[start - 1].slug if start else None
        page = _page(number, start, ordered[start : start + page_rows], totals, before, shown)
        sections = (replace(s, left_out=left_out.get(s.group.slug, 0)) for s in page.sections)
        made.append(replace(page, sections=tuple(sections)))
    return made


def fair_shares(films: Mapping[str, int], rows: int) -> dict[str, int]:
    """How many films of each group a worklist of so many rows holds.

    Each group has an equal share; what a group does not need goes to the others.
    """
    shares: dict[str, int] = {}
    for left, slug in zip(
        range(len(films), 0, -1), sorted(films, key=films.__getitem__), strict=True
    ):
        shares[slug] = min(films[slug], (rows - sum(shares.values())) // left)
    return shares


def tiles(all_pages: Sequence[WorklistPage], counted: Counts | None = None) -> tuple[Tile, ...]:
    """Count the films of each group, duplicates left out, over all pages, or as `counted`."""
    counts: Counter[str] = Counter()
    starts: dict[str, str] = {}
    for page in all_pages:
        for section in page.sections:
            slug = section.group.slug
            starts.setdefault(slug, f"{page.name}#{slug}")
            counts[slug] += sum(entry.row.status != "duplicate" for entry in section.entries)
    if counted:
        counts = Counter(counted.films)
    return tuple(
        Tile(group, counts[group.slug], starts.get(group.slug)) for group in all_pages[0].groups
    )


def unscored(all_tiles: Sequence[Tile], drawn: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """How many films a histogram of these counts by role leaves out: `others` by other weights."""
    films = {tile.group.slug: tile.count for tile in all_tiles}
    others = sum(films[role] - sum(drawn.get(role, ())) for role in _SCORED)
    return {"refused": films[Role.REFUSED], "failed": films["failed"], "others": max(others, 0)}


def _urgency(row: WorklistRow) -> tuple[int, float]:
    slug = slug_of(row)
    return _RANK[slug], -(row.record.probability or 0.0) if slug in _SCORED else 0.0


def _keep_duplicates_together(ordered: Sequence[WorklistRow]) -> list[Entry]:
    """Put each duplicate right after the film whose page it shares, in that film's group."""
    firsts = {row.page: row for row in ordered if row.status == "screened"}
    followers: dict[str | None, list[WorklistRow]] = {}
    leaders: list[WorklistRow] = []
    for row in ordered:
        follows = row.status == "duplicate" and row.page in firsts
        (followers.setdefault(row.page, []) if follows else leaders).append(row)
    entries: list[Entry] = []
    for row in leaders:
        slug = slug_of(row)
        entries.append(Entry(row, slug))
        if row is firsts.get(row.page):
            same = followers.get(row.page, ())
            entries.extend(Entry(copy, slug, row.record.file) for copy in same)
    return entries


def _page(
    number: int,
    start: int,
    entries: Sequence[Entry],
    totals: Counter[str],
    last_slug: str | None,
    shown: tuple[Group, ...],
) -> WorklistPage:
    name = "index.html" if number == 1 else f"worklist-{number}.html"
    group_of = {group.slug: group for group in shown}
    sections = tuple(
        Section(group_of[slug], tuple(members), totals[slug], slug == last_slug)
        for slug, members in groupby(entries, key=lambda entry: entry.slug)
    )
    return WorklistPage(name, start + 1 if entries else 0, start + len(entries), shown, sections)
