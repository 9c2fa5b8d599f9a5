"""Results page by page, as a person leafs through them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Engine, Select, func, select, union_all

from worker.records import Decision
from worker.store.counts import decisions
from worker.store.filters import Filter, restricted
from worker.store.queries import Result, results_of
from worker.store.tables import ENDED, HAS_REPORT, File, Film, Screening

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
    chosen = _chosen(engine, wanted, text)
    total = _count(engine, chosen, _COUNTED + 1)
    more = total > _COUNTED
    if not more and offset >= total:  # a search would read everything again
        return Leaf((), total, more)
    if sort == "score":
        found = _by_score(engine, wanted, text, offset)
    else:
        ordered = chosen.order_by(*_ORDER[sort]).limit(wanted.limit).offset(offset)
        found = list(results_of(engine, ordered))
    return Leaf(tuple(found), min(total, _COUNTED), more)


def _chosen(engine: Engine, wanted: Filter, text: str) -> Select[int]:
    chosen = restricted(select(File.id), wanted)
    if wanted.decision is None and _asks_for_scores(wanted):
        chosen = chosen.where(File.decision.in_(_answers(engine)))
    return chosen.where(File.file.contains(text, autoescape=True)) if text else chosen


def _answers(engine: Engine) -> list[str]:
    return [each for each in decisions(engine) if each != Decision.REFUSED]


def _by_score(engine: Engine, wanted: Filter, text: str, offset: int) -> list[Result]:
    """Answers, each decision by its own index and then merged; what is left is refused."""
    words = _answers(engine) if wanted.decision is None else [wanted.decision]
    found, before = list[Result](), offset
    if words != [Decision.REFUSED]:
        of_each = (replace(wanted, decision=word) for word in words)
        scored = (_chosen(engine, each, text).add_columns(File.probability) for each in of_each)
        some = union_all(*scored).subquery()
        falling = select(some.c.id, some.c.probability)  # without the latter SQLite sorts them all
        falling = falling.order_by(some.c.probability.desc(), some.c.id.desc())
        found += results_of(engine, falling.limit(wanted.limit).offset(offset))
        if len(found) == wanted.limit or wanted.decision is not None:
            return found
        before = 0 if found or not offset else offset - _count(engine, falling)
    if wanted.decision is None and _asks_for_scores(wanted):
        return found
    left = None if wanted.limit is None else wanted.limit - len(found)
    refused = _chosen(engine, replace(wanted, decision=Decision.REFUSED), text)
    newest = refused.order_by(*_ORDER["newest"]).limit(left).offset(before)
    return found + list(results_of(engine, newest))


def _asks_for_scores(wanted: Filter) -> bool:
    return (wanted.min_probability, wanted.max_probability) != (None, None)


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
        .where(Screening.page == page, HAS_REPORT)
    )
    with engine.connect() as connection:
        return connection.scalar(asked)
