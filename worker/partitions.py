"""All results as a folder of Parquet files that programs read as one table, kept up to date.

A block is 100,000 consecutive files; it has a Parquet file, or one for each month in which results
came to an end. A block is written again only when something in it changed: the counts of
`store.lists`, which each change moves in its own transaction, stand in the files' footers. So an
export that was cut off goes on, and the next one costs what is new. After a restore the counts are
those of another history, and all is written again.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine

from worker.config import Site
from worker.errors import UsageError
from worker.filesystem import output, remove_temporary
from worker.parquet import Kind, Pieces, read_note
from worker.progress import Tell, nobody
from worker.report.site import make_folder
from worker.store.lists import LIST_FILES, changes_by
from worker.store.mark import history, site_mark
from worker.store.queries import Result, result_values, results_in

By = Literal["block", "month"]

_LISTS = 100  # pages of reports/results/ in a block
_OTHERS = "name a new folder, or one that this site's results were exported to in the same way"


@dataclass(frozen=True)
class Exported:
    """Files that were written now, with how many rows; and blocks that were left as they were."""

    files: int
    rows: int
    unchanged: int


@dataclass(frozen=True)
class _Export:
    engine: Engine
    site: Site
    folder: Path
    columns: Mapping[str, Kind]
    by: By

    @property
    def note(self) -> dict[str, str]:
        """What every file of this export says of itself."""
        mark = site_mark(self.engine) or ""
        return {
            "site": mark,
            "by": self.by,
            "columns": " ".join(self.columns),
            "history": history(self.engine),
        }


def export(
    engine: Engine,
    site: Site,
    folder: Path,
    columns: Mapping[str, Kind],
    *,
    by: By = "block",
    tell: Tell = nobody,
) -> Exported:
    """Bring a folder up to date; `columns` are those of `RESULT_FIELDS`.

    Raises UsageError when the folder holds other Parquet files, OSError, StoreError.
    """
    whole = _Export(engine, site, folder, columns, by)
    make_folder(site, folder)
    there = _there(whole)
    changes = changes_by(engine, _LISTS)  # before the rows: what comes later counts next time
    files = rows = unchanged = 0
    for number, (block, count) in enumerate(changes.items()):
        tell("blocks", number, len(changes), "block")
        notes = there.get(block, {})
        if _is_current(notes, count):
            unchanged += 1
            continue
        written = _write(whole, block, count, set(notes))
        files, rows = files + len(written), rows + sum(written)
    for block in there.keys() - changes.keys():  # a backup knows fewer
        for path in there[block]:
            path.unlink(missing_ok=True)
    tell("blocks", len(changes), len(changes), "block")
    return Exported(files, rows, unchanged)


_Note = dict[str, str]


def _there(export: _Export) -> dict[int, dict[Path, _Note]]:
    """What lies in the folder, by block; half-written files go."""
    found: dict[int, dict[Path, _Note]] = defaultdict(dict)
    for folder in (export.folder, *export.folder.glob("month=*")):
        remove_temporary(folder)
    for path in sorted(export.folder.rglob("*.parquet")):
        note = read_note(path)
        if {name: note.get(name) for name in ("site", "by")} != {
            name: export.note[name] for name in ("site", "by")
        }:
            raise UsageError(f"{path} is of another site, or not partitioned so: {_OTHERS}")
        if any(note.get(name) != export.note[name] for name in ("columns", "history")):
            note["changes"] = ""  # of another version, or from before a restore: written again
        found[int(note["block"])][path] = note
    return found


def _is_current(notes: Mapping[Path, _Note], changes: int) -> bool:
    """Whether every file of a block is there and of this state."""
    return bool(notes) and all(
        note["changes"] == str(changes) and int(note["parts"]) == len(notes)
        for note in notes.values()
    )


def _write(export: _Export, block: int, changes: int, old: set[Path]) -> list[int]:
    """Write a block's files, then remove those it has no more; how many rows each has."""
    parts: dict[Path, Pieces] = {}
    for results in _results(export.engine, block):
        for path, some in _by_path(export, block, results).items():
            parts.setdefault(path, Pieces(export.columns)).add([result_values(one) for one in some])
    note = export.note | {"block": str(block), "changes": str(changes), "parts": str(len(parts))}
    for path, pieces in parts.items():
        make_folder(export.site, path.parent)
        with output(path, int(export.site.file_mode, 8)) as file:
            pieces.write(file, note)
    for path in old - parts.keys():
        path.unlink(missing_ok=True)
    return [pieces.rows for pieces in parts.values()]


def _results(engine: Engine, block: int) -> Iterator[list[Result]]:
    for start in range(block * _LISTS * LIST_FILES, (block + 1) * _LISTS * LIST_FILES, LIST_FILES):
        if found := results_in(engine, start, start + LIST_FILES - 1):
            yield found


def _by_path(export: _Export, block: int, results: Sequence[Result]) -> dict[Path, list[Result]]:
    name = f"part-{block:06}.parquet"
    if export.by == "block":
        return {export.folder / name: list(results)}
    found: dict[Path, list[Result]] = defaultdict(list)
    for result in results:
        found[export.folder / f"month={result.finished_at:%Y-%m}" / name].append(result)
    return found
