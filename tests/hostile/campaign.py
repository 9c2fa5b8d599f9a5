"""Feed 20,000 mutants, and everything else that is hostile, to the real daemon (`make fuzz`).

The folder of state holds the site and a journal of what was fed in; `--resume` goes on from there.
The exit status is 1 when a promise was broken.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.hostile.bombs import bombs, plant_special, tiring_bombs
from tests.hostile.films import source_films
from tests.hostile.memory import MemorySampler, Peaks, bound_mib
from tests.hostile.mutants import mutants
from tests.hostile.realdaemon import DaemonDied, RealDaemon, TooSlow, make_site, running, stage
from tests.hostile.verdict import SCREENED, Fed, Verdict, judge, names_in_log, table
from worker.config import Config, load_config

REPOSITORY = Path(__file__).resolve().parents[2]
MARKER = "mutant-"
_SETTINGS = """[watch]
settle_s = 0
scan_interval_s = 0.5
incomplete_after_s = 1
[batch]
size = 32
[model]
precision = "float32"
[decode]
timeout_s = 40
"""
_MOST_WAITING, _LEAST_WAITING = 600, 200  # files in the inbox: topped up between these
_WAVE_S = 900.0  # how long the daemon may take to bring the inbox below that
_REPORT_EVERY_S = 20.0

Item = tuple[Fed, bytes]


@dataclass
class State:
    """A campaign's folder: the site, and the journal of what was fed in."""

    folder: Path
    config: Config
    fed: list[Fed]

    @property
    def journal(self) -> Path:
        """One JSON line for each file, written before it goes into the inbox."""
        return self.folder / "fed.jsonl"

    def remember(self, fed: Fed) -> None:
        """Add a line to the journal."""
        with self.journal.open("a") as file:
            file.write(json.dumps(asdict(fed)) + "\n")
        self.fed.append(fed)


def open_state(folder: Path, *, resume: bool, settings: str = _SETTINGS) -> State:
    """A new campaign, or the one in this folder; a file journaled but not yet fed in is fed in."""
    site = folder / "site"
    if not resume:
        folder.mkdir(parents=True)
        return State(folder, make_site(site, settings), [])
    state = State(folder, load_config(site / "config.toml"), [])
    for line in state.journal.read_text().splitlines():
        values = json.loads(line)
        state.fed.append(Fed(**values | {"outcomes": tuple(values["outcomes"])}))
    known = {fed.name for fed in state.fed}
    for staged in (site / "staging").iterdir():
        if staged.name in known:
            staged.rename(state.config.site.inbox / staged.name)
        else:
            staged.unlink()
    return state


def shared_data_beside(repository: Path) -> Path | None:
    """The data folder beside the checkout, if it is there."""
    folder = repository.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def hostile_files(shared_data: Path | None, *, tiring: bool) -> list[Item]:
    """Bombs, and the collections of broken files where the shared data is."""
    items = [
        (Fed.of(bomb.name, "bombs", bomb.data, outcomes=bomb.outcomes), bomb.data)
        for bomb in [*bombs(), *(tiring_bombs() if tiring else ())]
    ]
    for folder in ("fuzz", "dicom/malformed") if shared_data else ():
        for path in sorted((shared_data / folder).iterdir()):  # type: ignore[operator]
            data = path.read_bytes()
            items.append((Fed.of(path.name, folder, data), data))
    return items


def mutated(shared_data: Path | None, seed: int, count: int, start: int) -> Iterator[Item]:
    """Mutants of all films, from number `start` on."""
    films = source_films(REPOSITORY, shared_data)
    for mutant in mutants(films, seed, count, start):
        yield Fed.of(mutant.name, mutant.kind, mutant.data, cut=mutant.cut), mutant.data


def feed(state: State, daemon: RealDaemon, items: Iterator[Item], report: "Progress") -> None:
    """Feed everything in, a wave at a time. Raises DaemonDied or TooSlow."""
    waiting = daemon.waiting()
    for fed, data in items:
        if waiting >= _MOST_WAITING:
            daemon.wait(lambda: report.look(daemon) <= _LEAST_WAITING, _WAVE_S)
            waiting = daemon.waiting()
        staged = stage(state.config, fed, data)
        state.remember(fed)
        staged.rename(state.config.site.inbox / fed.name)
        waiting += 1
    daemon.wait(lambda: report.look(daemon) == 0 and daemon.is_idle(), _WAVE_S)


class Progress:
    """Says now and then how far the campaign is."""

    def __init__(self, state: State, sampler: MemorySampler) -> None:
        self._state, self._sampler = state, sampler
        self._start = self._said = time.monotonic()

    def look(self, daemon: RealDaemon) -> int:
        """How many files wait in the inbox; says so every 20 s."""
        waiting, now = daemon.waiting(), time.monotonic()
        if now - self._said >= _REPORT_EVERY_S:
            self._said = now
            print(f"{now - self._start:6.0f} s: {len(self._state.fed)} files fed in, {waiting} "
                  f"wait, peak {self._sampler.peaks.together:.0f} MiB", flush=True)  # fmt: skip
        return waiting


def run(
    state: State, shared_data: Path | None, *, seed: int, count: int, tiring: bool = True
) -> tuple[list[str], Peaks]:
    """Start the daemon, feed it, stop it: what went wrong meanwhile, and the memory it took."""
    problems: list[str] = []
    with running(state.config, REPOSITORY) as daemon:
        sampler = MemorySampler(daemon.process.pid)
        try:
            progress = Progress(state, sampler)
            feed(
                state, daemon, _unknown(state, hostile_files(shared_data, tiring=tiring)), progress
            )
            start = sum(fed.name.startswith(MARKER) for fed in state.fed)
            feed(state, daemon, mutated(shared_data, seed, count, start), progress)
            if code := daemon.stop():
                problems.append(f"the daemon ended with exit status {code}")
        except (DaemonDied, TooSlow) as error:
            problems.append(f"{type(error).__name__}: {error}")
        return problems, sampler.stop()


def _unknown(state: State, items: list[Item]) -> Iterator[Item]:
    """The files that were not fed in before; what has no bytes of its own is fed in at once."""
    known = {fed.name for fed in state.fed}
    if not known:
        for name, outcomes in plant_special(state.config.site.inbox).items():
            state.remember(Fed(name, "bombs", "", outcomes=outcomes))
    return iter([item for item in items if item[0].name not in known])


def promises_broken(state: State, peaks: Peaks, verdict: Verdict) -> list[str]:
    """All that was not as promised: outcomes, the log, the memory."""
    log = (state.config.root / "daemon.log").read_text(errors="replace")
    problems = [f"the log names {name!r}" for name in names_in_log(log, state.fed, MARKER)]
    bound = bound_mib(state.config)
    if peaks.together > bound:
        problems.append(f"{peaks.together:.0f} MiB held, the bound is {bound} MiB")
    return verdict.problems + problems


def conclude(state: State, problems: list[str], peaks: Peaks) -> int:
    """Judge the site as it is, print everything, and give the exit status."""
    verdict = judge(state.config, state.fed, REPOSITORY)
    problems = problems + promises_broken(state, peaks, verdict)
    print(table(verdict.outcomes))
    cut = sum(fed.cut for fed in state.fed)
    screened = sum(counts[SCREENED] for counts in verdict.outcomes.values())
    print(f"\n{len(state.fed)} files: {cut} films cut before their end, {screened} screened")
    print(f"memory: {peaks.together:.0f} MiB at the most (bound {bound_mib(state.config)} MiB); "
          f"worker {peaks.worker:.0f} MiB, a decoder {peaks.decoder:.0f} MiB; "
          f"{len(peaks.decoders)} decoder processes seen")  # fmt: skip
    print(f"{len(problems)} promises broken")
    for problem in problems[:50]:
        print(" -", problem)
    return 1 if problems else 0


def main() -> int:
    """Run a campaign and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--state", type=Path, default=REPOSITORY / "build" / "fuzz")
    parser.add_argument("--resume", action="store_true", help="go on with the campaign in --state")
    parser.add_argument("--shared-data", type=Path, default=shared_data_beside(REPOSITORY))
    options = parser.parse_args()
    resumed = options.state.exists()
    if resumed and not options.resume:
        parser.error(f"{options.state} is there: add --resume, or remove it")
    start = time.monotonic()
    state = open_state(options.state.resolve(), resume=resumed)
    problems, peaks = run(state, options.shared_data, seed=options.seed, count=options.mutants)
    print(f"done in {time.monotonic() - start:.0f} s")
    return conclude(state, problems, peaks)


if __name__ == "__main__":
    sys.exit(main())
