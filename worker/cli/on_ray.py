"""`screen backfill --engine ray`: what the command does on a cluster."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.cli.backfill import names_of
from worker.cli.options import stoppable
from worker.cli.running import SAME_AGAIN, send_once, warn_of_lost_key

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from worker.cli.tally import Tally
    from worker.config import Config
    from worker.intake.archive import Archive
    from worker.on_ray.crew import Crew
    from worker.report.eyes import Reports
    from worker.store.archives import Listing


def backfill_on_ray(
    config: "Config",
    archives: "Sequence[Archive]",
    on_error: Callable[[OSError], None],
    on_resume: Callable[["Listing"], None],
    *,
    address: str,
    limit: int | None,
    rescan: bool,
    reports: "Reports",
) -> "tuple[Tally, int, int]":
    """Screen archives by the actors of a cluster: the tally, answers unsent, files that failed."""
    from worker.cli.progress import bar, lengthen
    from worker.cli.tally import Tally
    from worker.interop.answering import answer_all
    from worker.on_ray.attach import attached, require_address
    from worker.recovery import mend_pages
    from worker.report.site import settle_pages
    from worker.site import hold_for_backfill
    from worker.store.failures import standing_failures

    require_address(address)
    from worker.on_ray.backfill import Backfill, require_cluster_site
    from worker.on_ray.run import driving
    from worker.on_ray.screening import Task

    require_cluster_site(config)
    tally: Tally | None = None

    def stopped() -> str:
        return f"{tally.files if tally else 0} files were finished, {SAME_AGAIN}"

    sources = [archive.source for archive in archives]
    with (
        stoppable(stopped),
        hold_for_backfill(config, leases=True) as (engine, check),
        attached(address),
        driving(config, engine) as driver,
        _hired(config, engine, archives) as crew,
        bar("", None, "film", leave=True) as shown,
    ):
        named = ", ".join(names_of(archives))
        run_id, model_id = driver.begin(crew.facts, crew.size, named)
        tally = Tally(crew.facts.card.labels)

        def tell(counts: Mapping[str, int], passed: int, files: int) -> None:
            check()
            driver.alive()
            tally.put(counts, passed)
            lengthen(shown, min(files, limit + passed if limit else files))
            shown.set_postfix_str(tally.short(), refresh=False)
            shown.update(tally.files + passed - shown.n)

        mend_pages(config.site, engine, driver.alive, identity=config.dicom.identity)
        Backfill(
            engine,
            crew,
            archives,
            Task(run_id, model_id, crew.facts.identity, tuple(sources), reports),
            config.batch.size,
            limit,
            rescan,
            tell,
            on_error,
            on_resume,
        ).run()
        settle_pages(config.site, engine, driver.alive)
        answer_all(engine, config, check)
        waiting = send_once(engine, config)
        failed = standing_failures(engine, sources, model_id)
    return tally, waiting, failed


@contextmanager
def _hired(config: "Config", engine: "Engine", archives: "Sequence[Archive]") -> "Iterator[Crew]":
    from worker.on_ray.backfill import hired

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set its own
    warn_of_lost_key(config, engine)
    with hired(config, archives) as crew:
        yield crew
