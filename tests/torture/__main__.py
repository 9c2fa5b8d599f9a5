"""`make torture`: kill the worker thousands of times, cut its power, and judge what is left.

Resumable: what was done is kept in a folder; the same command goes on until the counts are reached.
Exits 1 when anything was wrong.
"""

import argparse
import itertools
import json
import logging
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.torture.broken import PROTOCOLS, UNSYNCED
from tests.torture.powercut import PowerArena, cuts
from tests.torture.sweep import NOT_DONE, Arena, Tally, at_random, every_failpoint
from worker.failpoints import FAILPOINTS

FILMS = Path(__file__).resolve().parents[1] / "films"
_SAVE_EVERY_S = 5.0
_MEMORY = "/dev/shm"


def main() -> None:
    """Run what the command line asks for and print the tally."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=10_000, help="of a worker with a stand-in")
    parser.add_argument("--real-kills", type=int, default=60, help="of the real worker, decoders")
    parser.add_argument("--power-cuts", type=int, default=500, help="need the right to mount")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="side by side")
    parser.add_argument("--state", type=Path, default=Path("build/torture"), help="what was done")
    parser.add_argument("--broken", choices=[*PROTOCOLS, *UNSYNCED], help="with this fault")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if asked.broken:
        sys.exit(_test_of_the_test(asked.broken))
    asked.state.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        Arena(Path(folder)).warm_up()
    parts = [_in_parallel(asked, worker) for worker in range(asked.workers)]
    failed = [pid for pid in parts if os.waitpid(pid, 0)[1]]
    if failed:
        sys.exit("the torture itself broke down")
    _show(asked, time.monotonic() - start)


def _in_parallel(asked: argparse.Namespace, worker: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
                _work(asked, worker, Path(folder))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def _work(asked: argparse.Namespace, worker: int, folder: Path) -> None:
    """One worker's share: kills, then power cuts, then kills of the real thing."""
    share = 1 / asked.workers
    for name in ("kills", "cuts", "real"):
        (folder / name).mkdir()
    if asked.kills:
        arena = Arena(folder / "kills")
        first = every_failpoint() if worker == 0 else iter(())
        seeds = (at_random(seed) for seed in itertools.count(10_000 + worker, asked.workers))
        trials = (lambda t=t: arena.hold(t) for t in itertools.chain(first, seeds))
        _until(asked.state / f"kills-{worker}.json", arena.tally, trials, share * asked.kills)
    if asked.power_cuts:
        disks = PowerArena(folder / "cuts")
        histories = (lambda c=c: disks.hold(c) for c in cuts(1_000_000 * (worker + 1)))
        wanted = share * asked.power_cuts
        _until(asked.state / f"cuts-{worker}.json", disks.tally, histories, wanted)
    if asked.real_kills and worker == 0:  # torch takes all cores for itself
        from tests.torture.real import RealArena

        real = RealArena(folder / "real", sorted(FILMS.rglob("*.jpeg")))
        lives = (lambda seed=seed: real.hold(seed) for seed in itertools.count())
        _until(asked.state / "real.json", real.tally, lives, asked.real_kills)


def _until(file: Path, tally: Tally, trials: Iterator[Callable[[], object]], kills: float) -> None:
    """Hold trials until so many kills were counted, going on where the file says."""
    if file.exists():
        before = json.loads(file.read_text())
        for name, value in before.items():
            setattr(tally, name, Counter(value) if isinstance(value, dict) else value)
        trials = itertools.islice(trials, tally.trials, None)
    saved = time.monotonic()
    while sum(tally.kills.values()) < kills:
        next(trials)()
        if time.monotonic() - saved > _SAVE_EVERY_S:
            file.write_text(json.dumps(vars(tally)))
            saved = time.monotonic()
    file.write_text(json.dumps(vars(tally)))


def _show(asked: argparse.Namespace, took_s: float) -> None:
    faults: list[str] = []
    for kind, what in (
        ("kills", "kill -9 of a worker with a stand-in for decoders and network"),
        ("cuts", "power cuts of its disks"),
        ("real", "kill -9 of the real worker and its decoders"),
    ):
        found = [json.loads(f.read_text()) for f in sorted(asked.state.glob(f"{kind}*.json"))]
        if not found:
            continue
        kills: Counter[str] = sum((Counter(each["kills"]) for each in found), Counter())
        deeds: Counter[str] = sum((Counter(each["deeds"]) for each in found), Counter())
        reached: Counter[str] = sum((Counter(each["reached"]) for each in found), Counter())
        trials, lives = (sum(each[name] for each in found) for name in ("trials", "lives"))
        wrong = [fault for each in found for fault in each["faults"]]
        faults += wrong
        print(f"{sum(kills.values())} {what}")
        print(f"  in {trials} trials with {lives} lives; {len(wrong)} faults")
        print("  " + ", ".join(f"{name} {count}" for name, count in kills.most_common()))
        if deeds:
            print("  beside them: " + ", ".join(f"{k} {n}" for k, n in deeds.most_common()))
        if kind == "kills":
            print(f"  never reached: {sorted(set(FAILPOINTS) - reached.keys()) or 'none'}")
    print(f"this call took {took_s:.0f} s")
    for fault in faults[:20]:
        print(fault)
    sys.exit(1 if faults else 0)


def _test_of_the_test(name: str) -> int:
    """Hold trials of a broken protocol until one shows it; 1 when it was caught.

    2 when its lives came to no end, or to that of a program with an error: that is no protocol.
    """
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        if name in UNSYNCED:
            disks = PowerArena(Path(folder))
            found = (disks.hold(cut) for cut in itertools.islice(cuts(1, name), 60))
        else:
            arena = Arena(Path(folder))
            near = [t for t in every_failpoint() if t.blows[0].point in PROTOCOLS[name].near]
            found = (arena.hold(replace(trial, broken=name)) for trial in near)
        for number, faults in enumerate(found, start=1):
            if faults and ("Traceback" in faults[0] or faults[0].startswith(NOT_DONE)):
                print(f"{name}: crashes: {faults[0]}")
                return 2
            if faults:
                print(f"{name}: caught in trial {number}: {faults[0]}")
                return 1
    print(f"{name}: not caught")
    return 0


if __name__ == "__main__":
    main()
