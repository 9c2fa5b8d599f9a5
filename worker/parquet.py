"""Parquet for programs that analyse: typed columns, written while the rows are read."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from worker.errors import UsageError

_NOTE = "screen."  # begins the names of our own notes
_GROUP_ROWS = 32_768  # held in memory at once; a reader skips or reads such a group as a whole


class Kind(StrEnum):
    """What a column holds; any value may be missing."""

    TEXT = "string"
    INTEGER = "int64"
    NUMBER = "float64"
    BYTES = "binary"
    MOMENT = "moment"  # an aware datetime, to the microsecond


def require_pyarrow() -> None:
    """Raise UsageError that says how to install what this module needs."""
    _pyarrow("pyarrow.parquet")


def write_parquet(
    file: IO[bytes], columns: Mapping[str, Kind], rows: Iterable[Sequence[object]]
) -> None:
    """Write rows with one value for each column; ended by the footer that makes a file whole.

    Raises UsageError when pyarrow is not installed.
    """
    parquet, schema = _pyarrow("pyarrow.parquet"), _schema(columns)
    left = iter(rows)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(left, _GROUP_ROWS)):
            writer.write_table(_table(group, schema))


class Pieces:
    """Rows that come in pieces, held as columns until they are written as one file."""

    def __init__(self, columns: Mapping[str, Kind]) -> None:
        self._schema = _schema(columns)
        self._tables: list[Any] = []
        self.rows = 0

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Some rows more, at least one."""
        self._tables.append(_table(rows, self._schema))
        self.rows += len(rows)

    def write(self, file: IO[bytes], note: Mapping[str, str]) -> None:
        """Write all of them; `note` stands in the file's footer (`read_note`)."""
        pa, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
        whole = pa.concat_tables(self._tables)
        named = {_NOTE + name: value for name, value in note.items()}
        parquet.write_table(
            whole.replace_schema_metadata(named),
            file,
            row_group_size=_GROUP_ROWS,
            compression="zstd",
        )


def read_note(path: Path) -> dict[str, str]:
    """What `Pieces.write` noted in a file's footer; empty for files of others."""
    found = _pyarrow("pyarrow.parquet").read_schema(path).metadata or {}
    named = {name.decode(): value.decode("utf-8", "replace") for name, value in found.items()}
    return {name.removeprefix(_NOTE): v for name, v in named.items() if name.startswith(_NOTE)}


def _table(rows: Sequence[Sequence[object]], schema: Any) -> Any:
    pa = _pyarrow("pyarrow")
    values = zip(*rows, strict=True)
    arrays = [pa.array(each, field.type) for each, field in zip(values, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _schema(columns: Mapping[str, Kind]) -> Any:
    pa = _pyarrow("pyarrow")
    return pa.schema(
        [
            (name, pa.timestamp("us", tz="UTC") if kind == Kind.MOMENT else str(kind))
            for name, kind in columns.items()
        ]
    )


def _pyarrow(name: str) -> ModuleType:
    """A module of pyarrow, which is large and therefore an extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed: pip install 'cxr-screen[parquet]'"
        ) from error
