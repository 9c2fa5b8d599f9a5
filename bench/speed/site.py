"""Fresh sites to measure in, by the program's own commands, and what their databases say."""

import re
import shutil
import sqlite3
import tomllib
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bench.speed.processes import SCREEN, CommandFailed, Done, run


def new_site(folder: Path) -> Path:
    """`screen init` in a folder, made anew when it is there."""
    shutil.rmtree(folder, ignore_errors=True)
    run([*SCREEN, "init", folder])
    return folder


def screen(
    site: Path, *words: str | Path, sample_every_s: float | None = None, codes: Sequence[int] = (0,)
) -> Done:
    """A command of the program for this site, run to its end."""
    command = command_for(site, *words)
    return run(command, sample_every_s=sample_every_s, codes=codes)


def command_for(site: Path, *words: str | Path) -> list[str | Path]:
    """The words that call the program for this site."""
    return [*SCREEN, "--config", site / "config.toml", *words]


def configure(site: Path, key: str, value: int | str) -> None:
    """Set a number or a word in the site's config.toml."""
    file = site / "config.toml"
    written = value if isinstance(value, int) else f'"{value}"'
    line = rf'(?m)^{key} = (\d+|"[^"]*")'
    text, found = re.subn(line, f"{key} = {written}", file.read_text("utf-8"))
    if found != 1:
        raise KeyError(key)
    file.write_text(text, encoding="utf-8")


def settle_s(site: Path) -> float:
    """How long a file must stay unchanged before the site takes it."""
    settings = tomllib.loads((site / "config.toml").read_text("utf-8"))
    return float(settings["watch"]["settle_s"])


def ended(site: Path, expected: int) -> list[tuple[float, int]]:
    """(Unix time, films that ended then), in order.

    Raises CommandFailed unless exactly `expected` films were screened and nothing failed: figures
    of a run that lost one are worth nothing.
    """
    asked = "SELECT finished_at, status, count(*) FROM results GROUP BY 1, 2 ORDER BY 1"
    with closing(sqlite3.connect(f"file:{site / 'screen.db'}?mode=ro", uri=True)) as database:
        rows = database.execute(asked).fetchall()
    screened = sum(count for _, status, count in rows if status == "screened")
    if screened != expected or len({status for _, status, _ in rows}) != 1:
        raise CommandFailed(f"{screened} of {expected} films screened in {site}: {rows[-5:]}")
    return [(_unix(moment), count) for moment, _, count in rows]


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
