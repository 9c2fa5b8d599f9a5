"""How fast workers on one PostgreSQL lease films and bring them to their end, side by side.

    python -m bench.speed.scale --rows 2000000 --url URL    # first: films that wait
    python -m bench.speed.leases --url URL --films 10000 --holders 1 2 4 8

prints JSON: for each number of workers, a process each, films a second of all of them, the wall
time of each step and the worker's CPU time, in ms a film. Nothing is decoded: it is what the
database and the leases allow.
"""

import argparse
import json
import os
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context

from bench.speed.scale import BATCH, SOURCE, new_ground, screened
from worker.config import Database
from worker.store.database import open_database
from worker.store.leases import Holder, lease
from worker.store.outcomes import finish, screened_contents
from worker.store.workers import register_worker

_LEASE_S = 60.0
_STARTS_S = 15.0  # a process imports torch's cards


def measure(url: str, films: int, holders: int) -> dict[str, float]:
    """So many workers at once, each with its share of the films."""
    begins_at = time.time() + _STARTS_S
    with ProcessPoolExecutor(holders, mp_context=get_context("spawn")) as pool:
        shares = [pool.submit(_hold, url, films // holders, begins_at) for _ in range(holders)]
        found = [share.result() for share in shares]
    done = sum(one["films"] for one in found)
    steps = ("lease", "known", "finish", "cpu")
    return {
        "holders": holders,
        "films": done,
        "films_per_s": done / max(one["seconds"] for one in found),
        **{f"{step}_ms": 1000 * sum(one[step] for one in found) / done for step in steps},
    }


def _hold(url: str, films: int, begins_at: float) -> dict[str, float]:
    """Lease, screen and finish, as a worker does; seconds of each step."""
    engine = open_database(Database(url=url))
    worker_id = register_worker(engine, socket.gethostname(), os.getpid())
    ground = new_ground(engine, worker_id)
    ids = {"run_id": ground.run_id, "model_id": ground.model_id}
    holder = Holder(worker_id, ground.run_id, ground.model_id, _LEASE_S)
    took = dict.fromkeys(("lease", "known", "finish"), 0.0)
    time.sleep(max(0.0, begins_at - time.time()))
    start, cpu_start, done = time.perf_counter(), time.process_time(), 0
    while done < films:
        step = time.perf_counter()
        items = lease(engine, holder, SOURCE, limit=BATCH)
        took["lease"] += time.perf_counter() - step
        if not items:
            break
        outcomes = [screened(ground, item) for item in items]
        step = time.perf_counter()
        screened_contents(engine, [each.content for each in outcomes], ground.model_id)
        took["known"] += time.perf_counter() - step
        step = time.perf_counter()
        done += len(finish(engine, outcomes, **ids, now=datetime.now(UTC)))
        took["finish"] += time.perf_counter() - step
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    engine.dispose()
    return {"films": done, "seconds": seconds, "cpu": cpu_s, **took}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="a database that bench.speed.scale filled")
    parser.add_argument("--films", type=int, default=10_000, help="for each number of workers")
    parser.add_argument("--holders", type=int, nargs="+", default=[1, 2, 4, 8])
    given = parser.parse_args()
    found = [measure(given.url, given.films, holders) for holders in given.holders]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
