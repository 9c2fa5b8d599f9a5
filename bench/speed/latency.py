"""How long a lone film waits for its report: drops into the inbox of an idle worker."""

import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.speed.figures import middle, percentile
from bench.speed.films import Mix, distinct
from bench.speed.processes import CommandFailed, start_process, tail
from bench.speed.site import command_for, ended, new_site, settle_s
from worker.filesystem import sha256_of

_POLL_S = 0.005
_PATIENCE_S = 60.0
_MAX_BYTES = 1 << 30

Row = dict[str, Any]


def measure(scratch: Path, mix: Mix, drops: int, seed: int = 0) -> Row:
    """Seconds from each drop (a rename into inbox/) to its page, without the time to settle.

    Between drops the worker is idle for a random while, so that no rhythm of its own shows. The
    first film, which also waits for the worker to start, is not counted.
    """
    rng = random.Random(seed)
    site = new_site(scratch / "site")
    settled = settle_s(site)
    waits = []
    with _watching(site) as worker:
        for number in range(drops + 1):
            source = mix.sources[number % len(mix.sources)]
            film = site / f"film-{number}{source.suffix}"  # on the inbox's disk, not in it
            film.write_bytes(distinct(source.read_bytes(), number))
            waits.append(_wait_for_page(site, film, worker) - settled)
            time.sleep(rng.uniform(0.3, 1.0))
    ended(site, drops + 1)
    waits = waits[1:]
    return {
        "films": drops,
        "mix": mix.name,
        "settle_s": settled,
        "waits_s": waits,
        "p50_s": percentile(waits, 0.50),
        "p95_s": percentile(waits, 0.95),
        **{f"{name}_s": value for name, value in middle(waits).items() if name != "median"},
    }


@contextmanager
def _watching(site: Path) -> Iterator["subprocess.Popen[str]"]:
    """`screen watch` beside this process, ended in order."""
    with tempfile.TemporaryFile() as errors:
        worker = start_process(command_for(site, "watch"), errors)
        try:
            yield worker
            worker.send_signal(signal.SIGTERM)
            if worker.wait(_PATIENCE_S):
                raise CommandFailed(f"screen watch ended with {worker.returncode}: {tail(errors)}")
        finally:
            worker.kill()
            worker.communicate()


def _wait_for_page(site: Path, film: Path, worker: "subprocess.Popen[str]") -> float:
    """Drop one film; seconds until its page is there."""
    begins = sha256_of(film, _MAX_BYTES)[:24]
    pages = site / "reports" / "films"
    start = time.perf_counter()
    film.rename(site / "inbox" / film.name)
    while time.perf_counter() < start + _PATIENCE_S:
        if any(pages.glob(f"{begins}-*.html")):
            return time.perf_counter() - start
        if worker.poll() is not None:
            raise CommandFailed(f"screen watch ended with {worker.returncode}")
        time.sleep(_POLL_S)
    raise CommandFailed(f"no page for {film.name} within {_PATIENCE_S:.0f} s")
