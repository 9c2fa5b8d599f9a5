"""What every test of a bad day asks in the end: is each film where it belongs, once, unblamed?"""

import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.badday.standin import NO_FILM
from worker.config import Config, load_config
from worker.site import init_site

SETTINGS = "[watch]\nsettle_s = 0\nscan_interval_s = 0.1\n[batch]\nsize = 4\nmax_age_s = 0\n"
FILMS = {
    "a.jpg": b"1",
    "b.jpg": b"2",
    "twin.jpg": b"1",
    "bad.jpg": NO_FILM,
    "sub/c.jpg": b"3",
    "sub/R\udcf6ntgen\n.jpg": b"4",
}


def new_site(folder: Path, settings: str = SETTINGS) -> Config:
    """A site whose films settle at once."""
    config, _ = init_site(folder)
    (config.root / "config.toml").write_text(settings)
    return load_config(config.root / "config.toml")


def drop(config: Config, films: dict[str, bytes] = FILMS) -> None:
    """Copy films into the inbox: name → content."""
    for name, content in films.items():
        path = config.site.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def wait_until(happened: Callable[[], bool], limit_s: float = 90.0, every_s: float = 0.02) -> bool:
    """Wait for something outside this process, with a bound; whether it happened."""
    never = threading.Event()
    for _ in range(int(limit_s / every_s)):
        if happened():
            return True
        never.wait(every_s)
    return happened()


def is_empty(config: Config) -> bool:
    """Whether no file is left in the inbox and no claim in work/."""
    claims = [entry for entry in os.scandir(config.site.work) if entry.is_dir()]
    return not claims and not any(files for _, _, files in os.walk(config.site.inbox))


def query(config: Config, sql: str) -> list[tuple[object, ...]]:
    """Ask the site's database, as another program would."""
    with sqlite3.connect(f"file:{config.root / 'screen.db'}?mode=ro", uri=True) as connection:
        return connection.execute(sql).fetchall()


def wrongs(config: Config, films: dict[str, bytes] = FILMS) -> list[str]:
    """All that is not as it should be once these films have ended; empty on a good day."""
    found = []
    dropped = Counter(films.values())
    bad = {content for content in dropped if content.startswith(NO_FILM)}
    if not is_empty(config):
        found.append("something is left in inbox/ or work/")
    for folder, expected in (
        (config.site.done, Counter({c: n for c, n in dropped.items() if c not in bad})),
        (config.site.failed, Counter({c: n for c, n in dropped.items() if c in bad})),
    ):
        files = [p for p in folder.iterdir() if p.suffix != ".json" and p.name[0] != "."]
        contents = Counter(path.read_bytes() for path in files)
        if contents != expected:
            found.append(f"{folder.name}/ holds {contents}, expected {expected}")
    for sidecar in config.site.failed.glob("*.json"):
        if json.loads(sidecar.read_text())["reason"] != "not-a-film":
            found.append("a film was blamed")
    return found + _wrong_rows(config, dropped, bad) + _wrong_reports(config)


def _wrong_rows(config: Config, dropped: Counter[bytes], bad: set[bytes]) -> list[str]:
    states = dict(query(config, "SELECT state, count(*) FROM files GROUP BY state"))
    good = [content for content in dropped if content not in bad]
    expected = {
        "screened": len(good),
        "duplicate": sum(dropped[content] - 1 for content in good),
        "failed": sum(dropped[content] for content in bad),
    }
    expected = {state: count for state, count in expected.items() if count}
    found = [] if states == expected else [f"files are {states}, expected {expected}"]
    for what, sql, right in (
        ("screenings", "SELECT count(*) FROM screenings", len(good)),
        ("failures", "SELECT count(*) FROM failures", expected.get("failed", 0)),
        ("blamed", "SELECT count(*) FROM failures WHERE reason != 'not-a-film'", 0),
        ("strikes", "SELECT coalesce(sum(strikes), 0) FROM files", 0),
        ("deaths", "SELECT coalesce(sum(worker_deaths), 0) FROM files", 0),
    ):
        ((count,),) = query(config, sql)
        if count != right:
            found.append(f"{what}: {count}, expected {right}")
    return found


def _wrong_reports(config: Config) -> list[str]:
    found = []
    reports = config.site.reports
    for page, picture in query(config, "SELECT page, picture FROM screenings"):
        if not _ends(reports / str(page), b"</html>"):
            found.append("a page is missing or cut short")
        if not _ends(reports / str(picture), b"\xff\xd9"):
            found.append("a picture is missing or cut short")
    for folder in (reports, reports / "films", reports / "pictures", config.site.failed):
        if list(folder.glob(".screen-*")):
            found.append(f"a temporary file is left in {folder.name}/")
    if not _ends(reports / "index.html", b"</html>"):
        found.append("the worklist is missing or cut short")
    return found


def _ends(path: Path, end: bytes) -> bool:
    return path.exists() and path.read_bytes().rstrip().endswith(end)
