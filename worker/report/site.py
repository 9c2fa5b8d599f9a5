"""Write a site's reports: pictures that last, pages that can always be rendered again."""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from models.cards import Card
from worker.config import Site
from worker.failpoints import reach
from worker.filesystem import sync_folder, write_all_atomic, write_atomic
from worker.intake.found import INBOX
from worker.marks import require_this_site
from worker.report.pages import film_page, worklist_pages
from worker.report.view import FilmView, ModelFacts, RunView, WorklistRow
from worker.store import queries

INDEX = "index.html"
_LOCK = ".lock"
PAGES, PICTURES = "films", "pictures"
_END = b"</html>"
_RUNS_SHOWN = 50


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
        labels=card.labels,
        weights_sha256=card.weights.sha256,
        architecture=card.architecture,
        intended_use=card.intended_use,
        not_for=card.not_for,
        validated_on=card.population.description,
        metrics=tuple((str(k), str(v)) for k, v in card.metrics.get("headline", {}).items()),
        threshold=card.decision.threshold,
        threshold_chosen_on=card.decision.chosen_on,
        indeterminate=card.decision.indeterminate,
        guard_threshold=card.guard.threshold,
        evidence_scale=card.heat_map.evidence_scale,
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
    make_folders(site)
    html = film_page(view).encode("utf-8")
    write_atomic(site.reports / view.page, html, int(site.file_mode, 8))


def report_folders(site: Site) -> list[Path]:
    """reports/ and the folders below it."""
    return [site.reports, site.reports / PAGES, site.reports / PICTURES]


def make_folders(site: Site) -> None:
    """Make the folders below reports/, with the site's mode whatever the umask is."""
    for folder in report_folders(site):
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            folder.chmod(int(site.dir_mode, 8))
            sync_folder(folder.parent)


def render_again(
    site: Site, engine: Engine, ids: Iterable[int], alive: Callable[[], None] = lambda: None
) -> list[int]:
    """Render the pages of these screenings from the database; return those without a picture.

    `alive` is called before each. Raises ShareGone when reports/ is not the folder that was marked.
    """
    check = require_this_site(site, engine)
    without = []
    for screening_id in ids:
        alive()
        check()
        stored = queries.stored_screening(engine, screening_id)
        try:
            picture = (site.reports / stored.picture).read_bytes()
        except FileNotFoundError:
            without.append(screening_id)
            continue
        write_page(site, stored_view(stored, picture))
    return without


def stored_view(stored: queries.StoredScreening, picture: bytes) -> FilmView:
    """What a page shows of a screening that was read back from the database."""
    return FilmView(
        record=stored.record,
        model=model_facts(stored.card),
        picture=picture,
        evidence=stored.evidence,
        page=stored.page,
        format=stored.format,
        rows=stored.rows,
        columns=stored.columns,
        tags=stored.tags,
        notes=stored.notes,
        run=stored.run,
        screened_at=stored.screened_at,
        duplicates=stored.files[1:],
    )


def broken_pages(site: Site, engine: Engine) -> list[int]:
    """Screenings whose page is missing or was cut short, by a power loss say."""
    return [
        screening_id
        for screening_id, page, _picture in queries.screening_ids(engine)
        if not _is_whole(site.reports / page)
    ]


def _is_whole(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            file.seek(-min(64, page.stat().st_size), os.SEEK_END)
            return file.read().rstrip().endswith(_END)
    except OSError:
        return False


def write_worklist(site: Site, engine: Engine, now: datetime) -> Path:
    """Render the worklist from the database; return the page to open.

    Pages that no longer exist, because there are fewer rows, are removed. Raises ShareGone when
    reports/ is not the folder that was marked.
    """
    with _alone(site):
        return _write_worklist(site, engine, now)


@contextmanager
def _alone(site: Site) -> Iterator[None]:
    """Keep two processes from writing the worklist at once: the older rows could come last."""
    descriptor = os.open(site.reports / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_worklist(site: Site, engine: Engine, now: datetime) -> Path:
    card = queries.latest_card(engine)
    pages = worklist_pages(
        _rows(queries.results(engine)),
        [_run_view(run) for run in queries.runs(engine, _RUNS_SHOWN)],
        model_facts(card) if card else None,
        now,
    )
    require_this_site(site, engine)  # only now: rendering takes its time, and the share may go
    for name, html in pages.items():
        write_atomic(site.reports / name, html.encode("utf-8"), int(site.file_mode, 8))
    for old in site.reports.glob("worklist-*.html"):
        if old.name not in pages:
            old.unlink(missing_ok=True)
    reach("worklist-written")
    return site.reports / INDEX


def _rows(results: Iterable[queries.Result]) -> Sequence[WorklistRow]:
    """Rows of the worklist; failures that were mended, retried or discarded are left out."""
    return [
        WorklistRow(
            record=r.record,
            labels=r.labels,
            status=r.status,
            page=r.report if r.status != "failed" else None,
            run=r.run,
            at=r.finished_at,
            removed_at=r.page_removed_at,
        )
        for r in _standing(results)
    ]


def _standing(newest_first: Iterable[queries.Result]) -> Iterator[queries.Result]:
    seen = set()
    for result in newest_first:
        where = (result.source, result.record.file)
        mended = result.status == "failed" and where in seen and result.source != INBOX
        if not (mended or result.resolution in ("retried", "discarded")):
            yield result
        seen.add(where)


def _run_view(run: queries.RunSummary) -> RunView:
    return RunView(
        run=run.run,
        kind=run.kind,
        source=run.source,
        started_at=run.started_at,
        finished_at=run.finished_at,
        device=f"{run.device}, {run.precision}",
        counts=run.counts,
    )
