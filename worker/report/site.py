"""Write a site's reports: pictures that last, pages that can always be rendered again."""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from models.cards import Card
from worker.config import Site
from worker.failpoints import reach
from worker.filesystem import sync_filesystem, sync_folder, write_all_atomic, write_atomic
from worker.identity import shown
from worker.marks import require_this_site
from worker.records import Identity
from worker.report.pages import film_page, worklist_pages
from worker.report.results import FOLDER as RESULTS
from worker.report.results import remove_results, row_of, write_results
from worker.report.runs import FOLDER as RUNS
from worker.report.runs import missing_runs, write_run, write_runs
from worker.report.view import FilmView, ModelFacts, RunView, is_int8
from worker.report.worklist import fair_shares
from worker.store import queries
from worker.store.lists import lists
from worker.store.mark import keep_pages_safe, pages_safe
from worker.store.previous import previous_films
from worker.store.reviews import reviews_of
from worker.store.runs import RunSummary, latest_card, runs, score_spread
from worker.store.worklist import (
    has_more_results,
    most_urgent,
    worklist_counts,
    worklist_results,
)

INDEX = "index.html"
WORKLIST_ROWS = 5_000  # stand in the worklist, duplicates apart; of more the most urgent
RESULT_PAGES = 10  # of reports/results/ that a write of the worklist adds while others wait for it
_LOCK = ".lock"
PAGES, PICTURES = "films", "pictures"
_END = b"</html>"
_RUNS_SHOWN = 50
_ALIVE_EVERY_S = 1.0


def page_name(sha256: str, identity: str) -> str:
    """Path of a film's page below reports/: content and `Screener.identity`, no patient."""
    return f"{PAGES}/{sha256[:24]}-{identity[:8]}.html"


def picture_name(sha256: str, identity: str) -> str:
    """Path of a film's picture below reports/."""
    return f"{PICTURES}/{sha256[:24]}-{identity[:8]}.jpg"


def model_facts(card: Card) -> ModelFacts:
    """What pages say of a model, from its card."""
    return ModelFacts(
        name=card.name,
        version=card.version,
        labels=card.labels,
        weights_sha256=card.weights.sha256,
        architecture=card.architecture,
        intended_use=card.intended_use,
        not_for=card.not_for,
        population=card.population,
        metrics=tuple((str(k), str(v)) for k, v in card.metrics.get("headline", {}).items()),
        threshold=card.decision.threshold,
        threshold_chosen_on=card.decision.chosen_on,
        indeterminate=card.decision.indeterminate,
        guard_threshold=card.guard.threshold,
        evidence_scale=card.heat_map.evidence_scale,
        is_int8=is_int8(card),
    )


def write_pictures(site: Site, pictures: Mapping[str, bytes]) -> None:
    """Write pictures (path below reports/ → JPEG) so that they survive a power loss.

    All are written first and synced together, then renamed. Raises OSError.
    """
    if not pictures:
        return
    make_folders(site)
    files = {site.reports / name: picture for name, picture in pictures.items()}
    write_all_atomic(files, int(site.file_mode, 8), sync=True)
    sync_folder(site.reports / PICTURES)
    reach("pictures-synced")


def write_page(site: Site, view: FilmView) -> None:
    """Write one film's page. Not synced: it can be rendered again. Raises OSError."""
    _write_page(site, view, sync=False)


def _write_page(site: Site, view: FilmView, *, sync: bool) -> None:
    make_folders(site)
    html = film_page(view).encode("utf-8")
    write_atomic(site.reports / view.page, html, int(site.file_mode, 8), sync=sync)


def report_folders(site: Site) -> list[Path]:
    """reports/ and the folders below it; not all need to be there."""
    return [site.reports, *(site.reports / name for name in (PAGES, PICTURES, RESULTS, RUNS))]


def make_folders(site: Site) -> None:
    """Make the folders of films below reports/."""
    for folder in (site.reports, site.reports / PAGES, site.reports / PICTURES):
        make_folder(site, folder)


def make_folder(site: Site, folder: Path) -> None:
    """Make a folder and those above it, unless they are there, with the site's mode.

    The umask changes nothing of it. Another process may make the same folder meanwhile.
    """
    if not folder.is_dir():
        make_folder(site, folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(int(site.dir_mode, 8))
        sync_folder(folder.parent)


def render_again(
    site: Site,
    engine: Engine,
    ids: Iterable[int],
    alive: Callable[[], None] = lambda: None,
    *,
    identity: Identity = "off",
) -> list[int]:
    """Render the pages of these screenings from the database; return those without a picture.

    `alive` is called before each. Patients are shown as `identity` says. Synced, as the pages were
    that they replace: `broken_pages` does not look into these again.
    Raises ShareGone when reports/ is not the folder that was marked.
    """
    check = require_this_site(site, engine)
    without = []
    for screening_id in ids:
        alive()
        check()
        view = view_again(site, engine, screening_id, identity)
        if view is None:
            without.append(screening_id)
        else:
            _write_page(site, view, sync=True)
    return without


def view_again(
    site: Site, engine: Engine, screening_id: int, identity: Identity
) -> FilmView | None:
    """A stored screening as its page shows it now; `None` when its picture is not there.

    Raises sqlalchemy.exc.NoResultFound when there is no such screening.
    """
    stored = queries.stored_screening(engine, screening_id)
    try:
        picture = (site.reports / stored.picture).read_bytes()
    except FileNotFoundError:
        return None
    view = stored_view(stored, picture, identity=identity)
    previous = previous_films(engine, view.tags.patient_key, stored.record.sha256, screening_id)
    return replace(view, previous=previous, reviews=tuple(reviews_of(engine, screening_id)))


def stored_view(
    stored: queries.StoredScreening, picture: bytes, *, identity: Identity = "off"
) -> FilmView:
    """What a page shows of a screening that was read back from the database.

    What was stored of the patient while the site wanted more is left out when it no longer does.
    """
    return FilmView(
        record=stored.record,
        model=model_facts(stored.card),
        picture=picture,
        evidence=stored.evidence,
        page=stored.page,
        format=stored.format,
        rows=stored.rows,
        columns=stored.columns,
        tags=shown(stored.tags, identity),
        notes=stored.notes,
        run=stored.run,
        screened_at=stored.screened_at,
        duplicates=stored.files[1:],
    )


def broken_pages(site: Site, engine: Engine) -> list[int]:
    """Screenings whose page is missing or was cut short, by a power loss say.

    One listing tells which are missing. Only pages that were not synced yet (`settle_pages`) can be
    cut short.
    """
    safe = pages_safe(engine)
    there = _names(site.reports / PAGES)
    return [
        screening_id
        for screening_id, page in queries.pages(engine)
        if not _is_there(page, there)
        or (screening_id > safe and not _is_whole(site.reports / page))
    ]


def settle_pages(site: Site, engine: Engine, alive: Callable[[], None] = lambda: None) -> None:
    """Sync the pages that are there to the disk, and remember it. Raises OSError, StoreError.

    Only whole pages may be there: after `broken_pages` were rendered. `alive` is called while the
    disk takes its time: others may have written much to it.
    """
    newest = queries.newest_screening(engine)  # before the sync: its page was written before it
    if newest <= pages_safe(engine):
        return
    require_this_site(site, engine)
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(sync_filesystem, site.reports)
        while not wait([synced], _ALIVE_EVERY_S).done:
            alive()
        synced.result()
    keep_pages_safe(engine, newest)


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()


def _is_there(page: str, names: set[str]) -> bool:
    folder, _, name = page.partition("/")
    return folder == PAGES and name in names


def _is_whole(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            file.seek(-min(64, page.stat().st_size), os.SEEK_END)
            return file.read().rstrip().endswith(_END)
    except OSError:
        return False


def write_worklist(
    site: Site, engine: Engine, now: datetime, *, at_most: int | None = None
) -> Path:
    """Render the worklist from the database; return the page to open.

    Up to `WORKLIST_ROWS` results stand in it. Of more it holds the most urgent, and all stand below
    `reports/results/`, where those pages are written that changed, `at_most` of them; so those of
    runs, below `reports/runs/`. Pages that no longer exist are removed. Raises ShareGone when
    reports/ is not the folder that was marked.
    """
    with _alone(site):
        return _write_worklist(site, engine, now, at_most)


def pages_due(site: Site, engine: Engine) -> bool:
    """Whether pages of runs, or of results at a site that has them, are still to be written."""
    has_results = (site.reports / RESULTS).is_dir()
    due = has_results and any(each.due for each in lists(engine))
    return due or bool(missing_runs(site, engine))


def render_runs(site: Site, engine: Engine, now: datetime, run: int | None = None) -> None:
    """Render the pages of all runs, or of one, again. Raises ShareGone as `write_worklist` does."""
    recorded = runs(engine)
    require_this_site(site, engine)
    make_folder(site, site.reports / RUNS)
    for each in recorded:
        if run in (None, each.run):
            with _alone(site):  # one by one: a daemon writes its worklist between
                write_run(site, engine, each, now)


@contextmanager
def _alone(site: Site) -> Iterator[None]:
    """Keep two processes from writing the worklist at once: the older rows could come last."""
    descriptor = os.open(site.reports / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_worklist(site: Site, engine: Engine, now: datetime, at_most: int | None) -> Path:
    card = latest_card(engine)
    model = model_facts(card) if card else None
    is_long = has_more_results(engine, WORKLIST_ROWS)
    counts = worklist_counts(engine) if is_long else None
    shares = fair_shares(counts.films, WORKLIST_ROWS) if counts else {}
    chosen = most_urgent(engine, shares) if counts else worklist_results(engine)
    summaries = runs(engine, _RUNS_SHOWN)
    views = [_run_view(run) for run in summaries]
    spread = score_spread(engine, card) if card else None
    rows = [row_of(each) for each in chosen]
    pages = worklist_pages(rows, views, model, now, counts, spread)
    require_this_site(site, engine)  # only now: rendering takes its time, and the share may go
    make_folder(site, site.reports / RUNS)
    write_runs(site, engine, now, summaries, at_most)
    if is_long:
        make_folder(site, site.reports / RESULTS)
        write_results(site, engine, now, at_most)
    for name, html in pages.items():
        write_atomic(site.reports / name, html.encode("utf-8"), int(site.file_mode, 8))
    for old in site.reports.glob("worklist-*.html"):
        if old.name not in pages:
            old.unlink(missing_ok=True)
    if not is_long:
        remove_results(site)
    reach("worklist-written")
    return site.reports / INDEX


def _run_view(run: RunSummary) -> RunView:
    return RunView(
        run=run.run,
        kind=run.kind,
        source=run.source,
        started_at=run.started_at,
        finished_at=run.finished_at,
        device=f"{run.device}, {run.precision}",
        counts=run.counts,
    )
