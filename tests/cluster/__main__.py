"""Besiege a site: `python -m tests.cluster --faults 1000`. Exit 1 if anything was wrong."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.siege import Siege
from tests.postgres import running_server


def main() -> int:
    """Hold sieges, one for each seed, and say how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--films", type=int, default=0, help="as many as faults, if not given")
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    asked = parser.parse_args()
    wrong = 0
    for seed in asked.seed:
        with (
            tempfile.TemporaryDirectory() as folder,
            running_server() as server,
            server.database() as url,
        ):
            before = time.monotonic()
            siege = Siege(Path(folder), server, url, random.Random(seed))
            problems = siege.hold(asked.faults, asked.films or asked.faults, most_s=3600)
            print(f"seed {seed}: {time.monotonic() - before:.0f} s, {siege.tally}")
            print("\n".join(problems) or "nothing wrong")
            wrong += len(problems)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
