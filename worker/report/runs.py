"""`reports/runs/`: a page a run: what ran, how many films, how fast, scores, failures.

A page is written again when its run changed, and when it is missing; the mark at its end tells of
which state of the run it speaks. Only the latest runs are looked at, so the work of a write is
bounded. It links to no film: retention breaks nothing here.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from models.cards import Card, Reference
from worker.config import Site
from worker.filesystem import sync_folder, write_atomic
from worker.records import Labels, Role, role_of
from worker.report import histogram
from worker.report.drift import FEWEST_FILMS, Drift, drift, refused_share, share_beyond
from worker.report.environment import render
from worker.report.histogram import Drawn
from worker.report.wording import Group, groups
from worker.store.runs import NEWEST, RunFacts, RunSummary, run_facts, run_ids, run_summary, total

FOLDER = "runs"
_MARK_BYTES = 40


@dataclass(frozen=True)
class Compared:
    """A distribution drawn against the reference, and how far it moved."""

    drawn: Drawn
    drift: Drift


@dataclass(frozen=True)
class Shares:
    """A share of the decoded films, here and in the reference."""

    share: float
    reference: float


def page_name(run: int) -> str:
    """Name of a run's page below reports/runs/."""
    return f"{run}.html"


def missing_runs(site: Site, engine: Engine) -> list[int]:
    """Runs that have no page, in order."""
    there = {path.name for path in (site.reports / FOLDER).glob("*.html")}
    return [run for run in run_ids(engine) if page_name(run) not in there]


def write_runs(
    site: Site, engine: Engine, now: datetime, latest: Sequence[RunSummary], at_most: int | None
) -> None:
    """Write the pages that are due, newest first, `at_most` of them. Raises OSError, StoreError.

    The caller keeps others from doing so at the same time, and has made the folder.
    """
    missing = missing_runs(site, engine)
    changed = [each.run for each in latest if not _is_true(site.reports / FOLDER, each)]
    known = {each.run: each for each in latest}
    due = sorted({*missing, *changed}, reverse=True)[:at_most]
    for run in due:
        write_run(site, engine, known.get(run) or run_summary(engine, run), now)
    if due:
        sync_folder(site.reports / FOLDER)


def write_run(site: Site, engine: Engine, run: RunSummary, now: datetime) -> None:
    """Write one page; synced once its run has ended: only the latest are looked at again."""
    html = run_page(run, run_facts(engine, run.run), now) + _mark(run)
    ended = run.finished_at is not None
    path = site.reports / FOLDER / page_name(run.run)
    write_atomic(path, html.encode("utf-8"), int(site.file_mode, 8), sync=ended)


def run_page(run: RunSummary, facts: RunFacts, generated_at: datetime) -> str:
    """Render the page of one run."""
    card = facts.card
    reference = card.reference
    by_role = histogram.by_role(facts.scores, card.labels)
    scored = total(by_role.values())
    decided = card.decision
    return render(
        "run.html",
        run=run,
        facts=facts,
        card=card,
        counts=_counts(run.counts, card.labels),
        duplicates=run.counts["duplicate"],
        spread=histogram.scores(by_role, decided.threshold, decided.indeterminate, card.labels)
        if any(scored)
        else None,
        reference=reference,
        scores=_scores(scored, card, reference) if reference else None,
        guard=_guard(facts.guard, card, reference) if reference else None,
        refused=_refused(scored, facts.guard, reference) if reference else None,
        beyond=_beyond(facts.guard, card, reference) if reference else None,
        newest=NEWEST if sum(facts.guard) == NEWEST or facts.busy_files == NEWEST else None,
        fewest=FEWEST_FILMS,
        generated_at=generated_at,
    )


def _scores(counts: Sequence[int], card: Card, reference: Reference) -> Compared:
    labels = card.labels
    drawn = histogram.comparison(
        "scores",
        "Scores of answered films against the reference",
        counts,
        reference.scores,
        card.decision.threshold,
        labels,
    )
    return Compared(drawn, drift(counts, reference.scores))


def _guard(counts: Sequence[int], card: Card, reference: Reference) -> Compared:
    drawn = histogram.comparison(
        "guard",
        "Guard scores against the reference",
        counts,
        reference.guard,
        card.guard.threshold,
        ("like known", "unlike"),
    )
    return Compared(drawn, drift(counts, reference.guard, card.guard.threshold))


def _refused(scored: Sequence[int], guard: Sequence[int], reference: Reference) -> Shares | None:
    decoded = sum(guard)
    return Shares(1 - sum(scored) / decoded, refused_share(reference)) if decoded else None


def _beyond(guard: Sequence[int], card: Card, reference: Reference) -> Shares:
    threshold = card.guard.threshold
    return Shares(share_beyond(guard, threshold), share_beyond(reference.guard, threshold))


def _counts(counts: Mapping[str, int], labels: Labels) -> list[tuple[Group, int]]:
    """How many films each group of the worklist got from this run."""
    films = {
        role_of(word, labels): count for word, count in counts.items() if _is_decision(word, labels)
    }
    failed = {"failed": counts["failed"]}
    return [(group, (films | failed)[group.slug]) for group in groups([labels])]


def _is_decision(word: str, labels: Labels) -> bool:
    return word in (*labels, Role.INDETERMINATE.upper(), Role.REFUSED.upper())


def _mark(run: RunSummary) -> str:
    """What a page ends with: of which state of its run it speaks."""
    return f"<!-- {hashlib.sha256(repr(run).encode()).hexdigest()[:24]} -->\n"


def _is_true(folder: Path, run: RunSummary) -> bool:
    """Whether a run's page is there, whole, and speaks of it as it is now."""
    try:
        with (folder / page_name(run.run)).open("rb") as file:
            file.seek(-_MARK_BYTES, os.SEEK_END)
            return file.read().endswith(_mark(run).encode())
    except OSError:
        return False
