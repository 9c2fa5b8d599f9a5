"""Parquet for programs that analyse: typed columns, written while the rows are read."""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from types import ModuleType
from typing import IO

from worker.errors import UsageError

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
    pa, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    schema = pa.schema(
        [
            (name, pa.timestamp("us", tz="UTC") if kind == Kind.MOMENT else str(kind))
            for name, kind in columns.items()
        ]
    )
    left = iter(rows)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(left, _GROUP_ROWS)):
            values = zip(*group, strict=True)
            arrays = [
                pa.array(each, field.type) for each, field in zip(values, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _pyarrow(name: str) -> ModuleType:
    """A module of pyarrow, which is large and therefore an extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed: pip install 'cxr-screen[parquet]'"
        ) from error
