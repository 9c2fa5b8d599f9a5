"""The same backfill again over a finished archive: how long it takes to see that all is done."""

import os
import shutil
import sqlite3
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from bench.speed.films import Mix, archive_path, distinct
from bench.speed.site import ended, new_site, screen

Row = dict[str, Any]


def measure(scratch: Path, mix: Mix, count: int) -> Row:
    """One film is really screened; files beside it get copies of its row. Then the same again.

    So the archive is finished without the time that it takes: what is left to do is to list the
    files and to ask the database for each of them.
    """
    site, archive = new_site(scratch / "site"), scratch / "finished"
    shutil.rmtree(archive, ignore_errors=True)
    archive.mkdir()
    first = archive_path(archive, mix.sources, 0)
    first.parent.mkdir()
    first.write_bytes(distinct(mix.sources[0].read_bytes(), 0))
    screen(site, "backfill", archive)
    _finish(site / "screen.db", archive, mix, count)
    done = screen(site, "backfill", archive)
    ended(site, count)  # none was screened anew, none is missing
    passed = done.lines[-2][1]
    shutil.rmtree(archive)
    shutil.rmtree(site)
    return {"films": count, "seconds": done.seconds, "said": passed}


def _finish(file: Path, archive: Path, mix: Mix, count: int) -> None:
    """Make files, each with a row like that of the one that is there."""
    with closing(sqlite3.connect(file)) as database:
        template = database.execute("SELECT * FROM files")
        columns = [column[0] for column in template.description]
        row = dict(zip(columns, template.fetchone(), strict=True))
        insert = f"INSERT INTO files VALUES ({', '.join(f':{name}' for name in columns)})"  # noqa: S608
        numbers = iter(range(1, count))
        while some := list(islice(numbers, 10_000)):
            rows = [row | _file(archive, mix, number) for number in some]
            database.executemany(insert, rows)
        database.commit()


def _file(archive: Path, mix: Mix, number: int) -> Row:
    path = archive_path(archive, mix.sources, number)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(number.to_bytes(8, "big"))
    status = path.stat()
    return {
        "id": number + 1,
        "file": str(path),
        "path": os.fsencode(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }
