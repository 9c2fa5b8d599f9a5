"""A site that several workers share, what is fed to it, and the verdict at the end."""

import os
import random
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

import psycopg

from tests.torture import judge
from tests.torture.films import Fed, Kind, draw
from worker.site import init_site

LEASE_S = 1.5
SETTINGS = """
[watch]
settle_s = 0
scan_interval_s = 0.3
[batch]
size = 4
max_age_s = 0
[cluster]
lease_s = {lease_s}
[database]
url = "{url}"
busy_timeout_s = 5
"""
_TABLES = ("files", "failures", "films", "screenings")


class Field:
    """Below `folder`: a site whose database `url` names, and what outlives its workers."""

    def __init__(self, folder: Path, url: str, rng: random.Random) -> None:
        self._folder, self._url, self._rng = folder, url, rng
        self.root, self.scratch = folder / "site", folder / "scratch"
        self.scratch.mkdir()
        init_site(self.root)
        settings = SETTINGS.format(lease_s=LEASE_S, url=url)
        (self.root / "config.toml").write_text(settings)
        self.fed: list[Fed] = []

    def feed(self, count: int, without: Collection[Kind] = ()) -> None:
        """Drop some films, good ones and bad ones."""
        new = [each for each in draw(self._rng, count, self.fed) if each.kind not in without]
        for each in new:
            each.drop(self.root / "inbox")
        self.fed += new

    def is_over(self) -> bool:
        """Whether nothing is left to do, as far as the folders tell."""
        for folder, folders, files in os.walk(self.root):  # while workers change it
            is_work = Path(folder) == self.root / "work" and folders
            in_inbox = Path(folder).is_relative_to(self.root / "inbox") and files
            if is_work or in_inbox or any(name.startswith(".screen-") for name in files):
                return False
        return True

    def put_away(self) -> int:
        """How many films lie in done/ and failed/."""
        failed = [path for path in (self.root / "failed").iterdir() if path.suffix != ".json"]
        return len(failed) + len(list((self.root / "done").iterdir()))

    def verdict(self) -> list[str]:
        """What is wrong, now that all workers have ended."""
        database = self._folder / "copy.db"
        copy(self._url, database)
        crashed = any(each.kind == Kind.KILLER for each in self.fed)
        wrong = judge.at_the_end(judge.History(self.root, database, self.fed, None, crashed))
        return wrong + [path.read_text() for path in self.scratch.glob("traceback*")]

    def sums(self) -> dict[str, int]:
        """Films, and what befell them, as the copy made for the verdict says."""
        asked = "SELECT count(*) films, sum(attempts) attempts, sum(worker_deaths) deaths, "
        with judge.opened(self._folder / "copy.db") as rows:
            return dict(rows.execute(asked + "sum(worker_crashes) crashes FROM files").fetchone())


def copy(url: str, file: Path) -> None:
    """What the judge reads, as a file of SQLite."""
    with psycopg.connect(url) as source, closing(sqlite3.connect(file)) as target:
        for table in _TABLES:
            rows = source.execute(f"SELECT * FROM {table} ORDER BY id")
            names = [column.name for column in rows.description]
            target.execute(f"CREATE TABLE {table} ({', '.join(map(repr, names))})")
            places = ", ".join("?" * len(names))
            values = [tuple(map(_plain, row)) for row in rows]
            target.executemany(f"INSERT INTO {table} VALUES ({places})", values)
        target.commit()


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str | bytes | None) else str(value)
