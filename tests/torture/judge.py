"""Judge a site by its files and its database alone: an independent model of what must be true.

Nothing here uses the worker's own code: rows are read with sqlite3, folders with os.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.torture.films import Fed, Kind

_DECODED = (Kind.FILM, Kind.FLAKY)
_BROKEN = ("corrupt-file", "not-a-film", "truncated-file")
_STRIKES = 3
_FOLDERS = ("inbox", "work", "done", "failed")
_OWN = (".lock", ".site")  # the worker's own files in work/


@dataclass(frozen=True)
class History:
    """What a site went through: what was fed, into the inbox or as an archive.

    `crashed`: a worker crashed of itself. `decoders_killed`: somebody killed decoders, so that a
    good film may have strikes, and be quarantined at the third.
    """

    root: Path
    database: Path
    fed: Sequence[Fed]
    archive: Path | None = None
    crashed: bool = False
    decoders_killed: bool = False


def opened(file: Path) -> "closing[sqlite3.Connection]":
    """The database, for reading."""
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    return closing(database)


def at_any_moment(root: Path, fed: Sequence[Fed]) -> list[str]:
    """What is wrong right after a kill: no film may be absent, or be there twice."""
    there = Counter(sha for name in _FOLDERS for _, sha in _films(root / name, fed))
    return _difference("somewhere", Counter(each.sha256 for each in fed), there)


def at_the_end(history: History) -> list[str]:
    """What is wrong when a life came to its end in order and nothing is left to do."""
    with opened(history.database) as database:
        rows = database.execute("SELECT * FROM files").fetchall()
        failures = database.execute("SELECT file_id, reason FROM failures").fetchall()
        problems = [*_rows(rows, dict(failures), history), *_screenings(database, rows, history)]
        problems += _reports(history.root, database)
        if history.archive is None:
            problems += _places(rows, history)
        else:
            there = Counter(sha for _, sha in _films(history.archive, history.fed))
            problems += _difference("archive", Counter(f.sha256 for f in history.fed), there)
        problems += [row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]
    return problems + _leftovers(history.root)


def _films(folder: Path, fed: Sequence[Fed]) -> Iterator[tuple[Path, str]]:
    """Files whose content was fed, with its SHA-256."""
    known = {each.sha256 for each in fed}
    for path in folder.rglob("*"):
        if path.is_file() and (sha := _digest(path)) in known:
            yield path, sha


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _difference(where: str, wanted: Counter[str], there: Counter[str]) -> list[str]:
    return [f"{where}: lost {key} x{n}" for key, n in (wanted - there).items()] + [
        f"{where}: {key} x{n} too many" for key, n in (there - wanted).items()
    ]


def _rows(rows: Sequence[sqlite3.Row], reasons: dict[int, str], of: History) -> Iterator[str]:
    """One row per file fed, with the right end, and nobody blamed."""
    wanted = Counter(f"{each.name.rpartition('/')[2]} {each.sha256}" for each in of.fed)
    there = Counter(f"{row['file'].rpartition('/')[2]} {row['sha256']}" for row in rows)
    yield from _difference("rows", wanted, there)
    kinds = {each.sha256: each.kind for each in of.fed}
    for row in rows:
        kind = kinds.get(row["sha256"])
        if kind is not None:
            yield from _row(row, kind, reasons.get(row["id"]), of)
    for sha, kind in kinds.items():
        strikes = max((row["strikes"] for row in rows if row["sha256"] == sha), default=0)
        if kind == Kind.CRASHER and strikes != _STRIKES:
            yield f"{sha} took its decoder down, and has {strikes} strikes"


def _row(row: sqlite3.Row, kind: Kind, reason: str | None, of: History) -> Iterator[str]:
    name = f"row {row['id']} ({kind})"
    struck_out = of.decoders_killed and row["strikes"] == _STRIKES
    if kind in _DECODED and not struck_out:
        right = row["state"] in ("screened", "duplicate") and reason is None
    else:
        reasons = _BROKEN if kind == Kind.BROKEN else ("quarantined",)
        right = row["state"] == "failed" and reason in reasons
    if not right:
        yield f"{name} is {row['state']}, {reason}"
    if not row["attempts"]:
        yield f"{name} was never attempted"
    most = _STRIKES if of.decoders_killed else {Kind.CRASHER: _STRIKES, Kind.FLAKY: 1}.get(kind, 0)
    if row["strikes"] > most:
        yield f"{name} has {row['strikes']} strikes"
    if row["worker_crashes"] and not of.crashed:
        yield f"{name} is blamed for {row['worker_crashes']} crashes that never were"


def _screenings(
    database: sqlite3.Connection, rows: Sequence[sqlite3.Row], of: History
) -> Iterator[str]:
    """One screening per decoded content, one file that was its first, none for the others."""
    asked = "SELECT sha256 FROM screenings JOIN films ON films.id = screenings.film_id"
    answers = Counter(row[0] for row in database.execute(asked))
    firsts = Counter(row["sha256"] for row in rows if row["state"] == "screened")
    ended = {row["sha256"] for row in rows if row["state"] in ("screened", "duplicate")}
    wanted = {each.sha256 for each in of.fed if each.kind in _DECODED}
    if of.decoders_killed:
        wanted &= ended
    for sha in wanted | answers.keys() | firsts.keys():
        expected = int(sha in wanted)
        if answers[sha] != expected or firsts[sha] != expected:
            yield f"{sha}: {answers[sha]} screenings, {firsts[sha]} files that were its first"


def _places(rows: Sequence[sqlite3.Row], of: History) -> Iterator[str]:
    """Every file in done/ or failed/, under the name of its row, failed ones with a sidecar."""
    expected: dict[str, set[str]] = {"done": set(), "failed": set()}
    for row in rows:
        folder = "failed" if row["state"] == "failed" else "done"
        path = of.root / folder / (row["final_name"] or "")
        expected[folder].add(path.name)
        if not path.is_file() or _digest(path) != row["sha256"]:
            yield f"row {row['id']} says {folder}/{path.name}, which is another film or none"
        if folder == "failed":
            sidecar = path.with_name(path.name + ".json")
            expected[folder].add(sidecar.name)
            yield from _sidecar(sidecar)
    for folder, names in expected.items():
        there = Counter(path.name for path in (of.root / folder).iterdir())
        yield from _difference(folder, Counter(names), there)


def _sidecar(path: Path) -> Iterator[str]:
    try:
        json.loads(path.read_bytes())["reason"]
    except (OSError, ValueError, KeyError):
        yield f"the sidecar {path.name} lacks or is broken"


def _reports(root: Path, database: sqlite3.Connection) -> Iterator[str]:
    """One whole page and one whole picture for each screening, none else; a worklist of all."""
    rows = database.execute("SELECT page, picture FROM screenings").fetchall()
    ends = (("films", "page", b"</html>"), ("pictures", "picture", b"\xff\xd9"))
    for folder, column, end in ends:
        place = root / "reports" / folder
        there = Counter(path.name for path in place.iterdir()) if place.is_dir() else Counter()
        wanted = Counter(row[column].rpartition("/")[2] for row in rows)
        yield from _difference(folder, wanted, there)
        for name in wanted & there:
            if not (place / name).read_bytes().rstrip().endswith(end):
                yield f"{folder}: {name} is cut short"
    pages = [root / "reports" / "index.html", *(root / "reports").glob("worklist-*.html")]
    worklist = "".join(page.read_text(encoding="utf-8") for page in pages)
    for row in database.execute("SELECT file FROM files"):
        if row["file"].rpartition("/")[2] not in worklist:
            yield f"worklist: {row['file']} lacks"


def _leftovers(root: Path) -> list[str]:
    """Nothing may be left in inbox/ and work/, nor temporary files anywhere."""
    left = [p for p in (root / "inbox").rglob("*") if p.is_file()]
    left += [p for p in (root / "work").iterdir() if p.name not in _OWN]
    left += root.rglob(".screen-*")
    return [f"left over: {path.relative_to(root)}" for path in left]
