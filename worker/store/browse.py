"""Results page by page, as a person leafs through them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine, Select, func, select

from worker.store.filters import Filter, restricted
from worker.store.queries import Result, results_of
from worker.store.tables import File, Film, Screening

Sort = Literal["newest", "oldest", "score", "name"]
_COUNTED = 100_000  # beyond this many "more than" says enough


@dataclass(frozen=True)
class Leaf:
    """One page of results; `total` counts all of them, up to a limit, where `more` says so."""

    results: tuple[Result, ...]
    total: int
    more: bool


def browse(
    engine: Engine, wanted: Filter, *, text: str = "", sort: Sort = "newest", offset: int = 0
) -> Leaf:
    """Results as the filter asks, from `offset` on; `wanted.limit` of them.

    `text` must occur in the file's name, whatever its case (of ASCII letters). Scores fall; files
    without one come last.
    """
    chosen = restricted(select(File.id), wanted)
    if text:
        chosen = chosen.where(File.file.contains(text, autoescape=True))
    counted = select(func.count()).select_from(chosen.limit(_COUNTED + 1).subquery())
    ordered = chosen.order_by(*_order(sort)).limit(wanted.limit).offset(offset)
    with engine.connect() as connection:
        total = connection.execute(counted).scalar_one()
    more = total > _COUNTED
    found = results_of(engine, ordered) if more or offset < total else ()  # a search reads all
    return Leaf(tuple(found), min(total, _COUNTED), more)


def _order(sort: Sort) -> Sequence[Any]:
    return {
        "newest": (File.id.desc(),),
        "oldest": (File.id,),
        "score": (File.probability.desc(), File.id.desc()),
        "name": (File.file, File.id),
    }[sort]


@dataclass(frozen=True)
class Arrival:
    """One file, finished or not; `state` is waiting, attempted, screened, duplicate or failed."""

    id: int
    file: str
    state: str


def newest_files(engine: Engine, count: int) -> list[Arrival]:
    """The files that came last, finished or not, newest first."""
    asked = select(File.id, File.file, File.state).order_by(File.id.desc()).limit(count)
    with engine.connect() as connection:
        return [Arrival(*row) for row in connection.execute(asked)]


def screening_of_page(engine: Engine, page: str) -> int | None:
    """The screening whose report this is, a path below reports/; `None` if there is none.

    Pages bear the beginning of their film's SHA-256 (`report.site.page_name`).
    """
    digest = page.rpartition("/")[2].partition("-")[0]
    asked: Select[int] = (
        select(Screening.id)
        .join(Film, Film.id == Screening.film_id)
        .where(Film.sha256.between(digest, digest + "g"))
        .where(Screening.page == page, Screening.report_removed_at.is_(None))
    )
    with engine.connect() as connection:
        return connection.scalar(asked)
