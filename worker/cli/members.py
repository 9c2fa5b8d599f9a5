"""`screen watch` on PostgreSQL: one of several workers."""

import logging
import signal
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from worker.cli.options import stoppable
from worker.cli.running import SAME_AGAIN, screener_of, sending, stop_by_signals
from worker.cli.watch import end_of_once, there, work_off

if TYPE_CHECKING:
    from worker.config import Config

log = logging.getLogger(__name__)


def watch_with_others(config: "Config", once: bool) -> None:
    """Watch as one of several workers on PostgreSQL."""
    from worker.cli.progress import Counted, bar
    from worker.cluster.member import Member
    from worker.cluster.membership import checked, membership
    from worker.heartbeat import Heartbeat, pulse_file
    from worker.interop.answering import answering
    from worker.pipeline import Pipeline
    from worker.shelves import Shelves
    from worker.site import share_site

    with (
        stoppable(lambda: SAME_AGAIN),
        share_site(config) as engine,
        closing(screener_of(config, engine)) as screener,
        membership(config, engine, screener) as mine,
        bar("", there(config, engine) if once else 0, "film") if once else nullcontext() as shown,
    ):
        run_id, check = mine.holder.run_id, checked(config, engine, mine)
        pulse = Heartbeat(pulse_file(mine.seat.path), run_id, note=lambda: screener.engine.note)
        beat = (pulse if shown is None else Counted(pulse, shown)).beat

        def alive() -> None:
            mine.keeper.alive()
            beat("working")

        def make_pipeline(shelves: Shelves) -> Pipeline:
            return Pipeline(
                engine,
                screener,
                config,
                run_id=run_id,
                model_id=mine.holder.model_id,
                check=check,
                alive=alive,
                name_for=shelves.name_for,
            )

        member = Member(engine, config, make_pipeline, mine, check=check, beat=beat)
        caught = stop_by_signals(member.stop)
        if not once:
            ours = member.has_office
            with answering(engine, config, check, ours), sending(engine, config, ours):
                member.run()
            log.info("stopped; what is not finished waits in inbox/ and work/")
            return
        left = work_off(member, engine, config, check, run_id)
    end_of_once(left, stopped=member.stopped, by_hand=signal.SIGINT in caught)
