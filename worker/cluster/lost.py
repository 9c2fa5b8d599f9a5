"""Films whose lease was lost while they were screened."""

import logging

from sqlalchemy import Engine

from worker.config import Config
from worker.decoding import Started
from worker.report.site import render_again
from worker.store.leases import let_go
from worker.store.outcomes import answers_to
from worker.store.work import Item

log = logging.getLogger(__name__)


def throw_away(
    config: Config, engine: Engine, items: list[Item], batch: Started, model_id: int
) -> None:
    """Others have these films of a batch: drop what we made of them, and restore their pages."""
    log.warning("leases were lost: results are thrown away", extra={"count": len(items)})
    let_go(engine, items)
    contents = {batch.contents[item.id] for item in items if item.id in batch.contents}
    answered = answers_to(engine, contents, model_id)
    render_again(config.site, engine, answered, identity=config.dicom.identity)
