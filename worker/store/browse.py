"""Results page by page, as a person leafs through them."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine, Select, func, select, union_all

from worker.records import Decision
from worker.store.queries import Filter, Result, restricted, results_of
from worker.store.tables import ENDED, File, Film, Screening

Sort = Literal["newest", "oldest", "score", "name"]
_COUNTED = 100_000  # beyond this many "more than" says enough
_ORDER: dict[Sort, tuple[Any, ...]] = {
    "newest": (File.id.desc(),),
    "oldest": (File.id,),
    "score": (File.probability.desc(), File.id.desc()),
    "name": (File.file, File.id),
}


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

    `text` must occur in the file's name, whatever its case (of ASCII letters). Scores fall; what
    was refused comes last, newest first: its score, if it has one, is not valid. Nor is it found by
    its score, unless refusals are asked for.
    """
    chosen = restricted(select(File.id), wanted)
    by_score = (wanted.min_probability, wanted.max_probability) != (None, None)
    if by_score and wanted.decision != Decision.REFUSED:
        chosen = chosen.where(File.decision != Decision.REFUSED)
    if text:
        chosen = chosen.where(File.file.contains(text, autoescape=True))
    total = _count(engine, chosen, _COUNTED + 1)
    more = total > _COUNTED
    if not more and offset >= total:  # a search would read everything again
        return Leaf((), total, more)
    if sort == "score":
        found = _by_score(engine, chosen, wanted.limit, offset)
    else:
        ordered = chosen.order_by(*_ORDER[sort]).limit(wanted.limit).offset(offset)
        found = list(results_of(engine, ordered))
    return Leaf(tuple(found), min(total, _COUNTED), more)


def _by_score(engine: Engine, chosen: Select[int], limit: int | None, offset: int) -> list[Result]:
    """Two questions: no index has answers in the order of their scores, and then refusals."""
    answered = chosen.where(File.decision != Decision.REFUSED)
    falling = answered.order_by(*_ORDER["score"]).limit(limit).offset(offset)
    found = list(results_of(engine, falling))
    if len(found) == limit:
        return found
    before = 0 if found or not offset else offset - _count(engine, answered)
    left = None if limit is None else limit - len(found)
    refused = chosen.where(File.decision == Decision.REFUSED).order_by(*_ORDER["newest"])
    return found + list(results_of(engine, refused.limit(left).offset(before)))


def _count(engine: Engine, chosen: Select[int], at_most: int | None = None) -> int:
    counted = select(func.count()).select_from(chosen.limit(at_most).subquery())
    with engine.connect() as connection:
        return connection.execute(counted).scalar_one()


def to_review(engine: Engine, positive: str, count: int, undecided: int) -> list[Result]:
    """Films that nobody has reviewed: `count` with the decision `positive`, most suspicious first.

    After them as many `undecided` ones (INDETERMINATE), in the same order.
    """
    found: list[Result] = []
    for decision, limit in ((positive, count), (Decision.INDETERMINATE, undecided)):
        wanted = Filter(decision=decision, status="screened", reviewed=False)
        falling = restricted(select(File.id), wanted).order_by(*_ORDER["score"])
        found += results_of(engine, falling.limit(limit))
    return found


def newest_results(engine: Engine, count: int) -> list[Result]:
    """The results of the files that were recorded last, newest first.

    However many files wait that came later: each state's newest are asked for by themselves.
    """
    newest = select(File.id).order_by(File.id.desc()).limit(count)
    some = union_all(*(select(newest.where(File.state == s).subquery()) for s in ENDED)).subquery()
    return list(results_of(engine, select(some.c.id).order_by(some.c.id.desc()).limit(count)))


def newest_file(engine: Engine) -> int:
    """Number of the file that was recorded last, finished or not; 0 when there is none."""
    with engine.connect() as connection:
        return connection.scalar(select(func.max(File.id))) or 0


@dataclass(frozen=True)
class Unfinished:
    """A file that has not come to its end; `state` is waiting or attempted."""

    file: str
    state: str


def unfinished_files(engine: Engine, count: int, at_most: int) -> tuple[list[Unfinished], int]:
    """The files that come next, those being read before those that wait; and how many there are.

    Not more than `at_most` are counted.
    """
    open_ = File.state.in_(("attempted", "waiting"))
    asked = select(File.file, File.state).where(open_).order_by(File.state, File.id).limit(count)
    with engine.connect() as connection:
        found = [Unfinished(*row) for row in connection.execute(asked)]
    return found, _count(engine, select(File.id).where(open_), at_most)


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
