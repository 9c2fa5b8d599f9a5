"""One worker of several, with a stand-in for decoders and network, until it is told to stop."""

import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.torture.victim import CRASHED, TorturedScreener
from worker import failpoints
from worker.cluster.member import Member
from worker.cluster.membership import checked, membership
from worker.config import load_config
from worker.errors import ScreenError
from worker.pipeline import Pipeline
from worker.site import share_site

_FILM_S = 0.1  # in which a worker may be struck while it "predicts"


class SlowScreener(TorturedScreener):
    """Takes some time, so that blows find films in hand."""

    def answer(self, films, files, contents):
        """As the films deserve, a little later."""
        time.sleep(_FILM_S * len(films))
        return super().answer(films, files, contents)


def live(root: Path, scratch: Path, freezes: Callable[[], bool] = lambda: False) -> int:
    """A worker's life; its exit status. `scratch` remembers what befell films, and the log.

    Where `freezes` says so at a step of the protocol, it stops until somebody wakes it.
    """
    failpoints.arm(lambda _name: os.kill(os.getpid(), signal.SIGSTOP) if freezes() else None)
    logging.basicConfig(
        filename=scratch / "log", format="%(asctime)s %(process)d %(message)s", force=True
    )
    config = load_config(root / "config.toml")
    screener = SlowScreener(scratch)
    try:
        with (
            share_site(config) as engine,
            membership(config, engine, screener) as mine,
        ):
            check = checked(config, engine, mine)

            def make_pipeline(shelves):
                return Pipeline(
                    engine,
                    screener,
                    config,
                    run_id=mine.holder.run_id,
                    model_id=mine.holder.model_id,
                    check=check,
                    alive=mine.keeper.alive,
                    name_for=shelves.name_for,
                )

            member = Member(
                engine, config, make_pipeline, mine, check=check, beat=lambda *_, **__: None
            )
            signal.signal(signal.SIGTERM, lambda *_: member.stop())
            member.run()
            return 0
    except (ScreenError, OSError) as error:
        logging.warning("gave up: %r", error, exc_info=True)
        return 1
    except Exception:
        (scratch / f"traceback-{time.time_ns()}").write_text(traceback.format_exc())
        return CRASHED
