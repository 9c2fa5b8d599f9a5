"""Was every file that was fed in treated as promised? Folders and database are asked, not code."""

import hashlib
import json
import re
import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from worker.config import Config
from worker.folders import display_name, regular_files

SCREENED = "screened"  # any decision
CUT_OUTCOMES = ("truncated-file", "no-pixel-data")  # of a half-copied film: the second where a
# DICOM file ends between two elements, before its pixel data
_ROWS = """
SELECT files.file, files.state, files.sha256, files.final_name, failures.reason,
       screenings.decision, screenings.reason
FROM files LEFT JOIN failures ON failures.file_id = files.id
LEFT JOIN screenings ON screenings.id = files.screening_id
"""


@dataclass(frozen=True)
class Fed:
    """A file that was fed in. `sha256` is empty where nobody hashed it; `outcomes` those allowed.

    `cut` says that it is a film cut before the end of its picture.
    """

    name: str
    kind: str
    sha256: str
    cut: bool = False
    outcomes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, name: str, kind: str, data: bytes, *, cut: bool = False, outcomes: tuple[str, ...] = ()
    ) -> "Fed":
        """Of a file with these bytes."""
        return cls(name, kind, hashlib.sha256(data).hexdigest(), cut, outcomes)


@dataclass(frozen=True)
class Row:
    """What the database says of one file."""

    file: str
    state: str
    sha256: str | None
    final_name: str | None
    failure: str | None
    decision: str | None
    reason: str | None

    @property
    def outcome(self) -> str:
        """Slug of the failure, or `screened`; else the state, which is no outcome."""
        if self.state == "failed":
            return self.failure or "failed without a reason"
        return SCREENED if self.decision else self.state


@dataclass
class Verdict:
    """Broken promises, in words, and what became of each kind of file."""

    problems: list[str] = field(default_factory=list)
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def named_outcomes(repository: Path) -> set[str]:
    """Every decision, reason and slug of docs/OUTCOMES.md: what its tables name first."""
    text = (repository / "docs" / "OUTCOMES.md").read_text()
    firsts = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for first in firsts for name in re.findall("`([^`]+)`", first)}


def judge(config: Config, fed: list[Fed], repository: Path) -> Verdict:
    """Hold everything that was fed in against everything there is now."""
    rows = defaultdict(list)
    for row in read_rows(config):
        rows[row.file].append(row)
    verdict, names, expected = Verdict(), named_outcomes(repository), {}
    for each in fed:
        mine = rows.pop(display_name(Path(each.name)), [])
        if len(mine) != 1:
            verdict.problems.append(f"{each.name!r} has {len(mine)} rows")
            continue
        verdict.problems += _check_row(each, mine[0], names)
        verdict.outcomes[each.kind][mine[0].outcome] += 1
        expected[_place(config, mine[0])] = each
    verdict.problems += [f"{name!r} was never fed in" for name in rows]
    verdict.problems += _check_places(config, expected)
    return verdict


def read_rows(config: Config) -> list[Row]:
    """All rows of files with their outcome."""
    path = config.database.url.removeprefix("sqlite:///")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [Row(*values) for values in connection.execute(_ROWS)]
    finally:
        connection.close()


def _check_row(fed: Fed, row: Row, names: set[str]) -> list[str]:
    problems = []
    for name in filter(None, (row.failure, row.decision, row.reason)):
        if name not in names:
            problems.append(f"{fed.name!r}: {name} is no outcome of docs/OUTCOMES.md")
    if row.state not in ("screened", "duplicate", "failed"):
        problems.append(f"{fed.name!r} is {row.state} for ever")
    if row.state == "failed" and (row.decision or not row.failure):
        problems.append(f"{fed.name!r} failed, and has {row.decision}, {row.failure}")
    if row.state != "failed" and (row.failure or not row.decision):
        problems.append(f"{fed.name!r} is {row.state}, and has {row.decision}, {row.failure}")
    if fed.cut and row.outcome not in CUT_OUTCOMES:
        problems.append(f"{fed.name!r} is a half-copied film: {row.outcome}")
    if fed.outcomes and row.outcome not in fed.outcomes:
        problems.append(f"{fed.name!r}: {row.outcome}, expected {' or '.join(fed.outcomes)}")
    if fed.sha256 and row.sha256 not in (None, fed.sha256):
        problems.append(f"{fed.name!r} is recorded with another content")
    return problems


def _place(config: Config, row: Row) -> Path:
    folder = config.site.failed if row.state == "failed" else config.site.done
    return folder / (row.final_name or "without a name")


def _check_places(config: Config, expected: dict[Path, Fed]) -> list[str]:
    """Every file in its one place with its content, each failed one with a sidecar, none beside."""
    site, problems = config.site, []
    there = set(regular_files(site.done)) | set(regular_files(site.failed))
    for path, fed in expected.items():
        sidecar = path.with_name(path.name + ".json")
        if path not in there:
            problems.append(f"{fed.name!r} is not in {path.parent.name}/")
        elif fed.sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != fed.sha256:
            problems.append(f"{fed.name!r} has another content now")
        if path.parent == site.failed and (sidecar not in there or not _reason(sidecar)):
            problems.append(f"{fed.name!r} failed without a sidecar that says why")
        there -= {path, sidecar} if path.parent == site.failed else {path}
    problems += [f"{path.name!r} in {path.parent.name}/ is nobody's" for path in sorted(there)]
    left = [*regular_files(site.inbox), *(path for path in site.work.iterdir() if path.is_dir())]
    return problems + [f"{path.name!r} is left in {path.parent.name}/" for path in left]


def _reason(sidecar: Path) -> str:
    return str(json.loads(sidecar.read_bytes()).get("reason") or "")


def names_in_log(log: str, fed: list[Fed], marker: str) -> list[str]:
    """Names of files that the log tells; those that begin with `marker` are looked for as one."""
    names = {marker if each.name.startswith(marker) else each.name for each in fed}
    return sorted(name for name in names if len(name) > 6 and name in log)


def table(outcomes: dict[str, Counter[str]]) -> str:
    """Kind of file → outcomes, as a Markdown table, most frequent outcome first."""
    lines = ["| what was fed in | files | what became of them |", "|---|---|---|"]
    for kind in sorted(outcomes):
        counts = outcomes[kind]
        became = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        lines.append(f"| {kind} | {counts.total()} | {became} |")
    return "\n".join(lines)
