"""Rows in the forms that `screen query` gives: a table for people, JSON, CSV and Parquet."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from worker.errors import UsageError
from worker.parquet import Kind

Row = Sequence[object]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", re.ASCII)  # as the database holds it


def json_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A JSON array of objects, one a line, written piece by piece.

    Bytes are written in hexadecimal, numbers that JSON does not know (infinity) as null.
    """
    require_distinct(columns)
    encode = json.JSONEncoder(allow_nan=False, default=bytes.hex).encode
    before = "["
    for row in rows:
        try:
            text = encode(dict(zip(columns, row, strict=True)))
        except ValueError:
            text = encode(dict(zip(columns, map(_finite, row), strict=True)))
        yield f"{before}{text}\n"
        before = ","
    yield "[]\n" if before == "[" else "]\n"


def csv_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """CSV with a heading; bytes are written in hexadecimal."""
    from worker.csvtext import csv_line

    yield csv_line(columns)
    for row in rows:
        yield csv_line(value.hex() if isinstance(value, bytes) else value for value in row)


def table_lines(columns: Sequence[str], rows: Iterable[Row], limit: int) -> Iterator[str]:
    """Columns side by side, numbers to the right; a last line says when there are more rows."""
    from worker.report.text import printable

    left = iter(rows)
    shown = list(islice(left, limit))
    cells = [[printable(_cell(value)) for value in row] for row in shown]
    heads = [printable(name) for name in columns]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    numeric = [
        bool(shown) and all(isinstance(row[index], int | float | None) for row in shown)
        for index in range(len(columns))
    ]
    aligned: list[Callable[[str, int], str]] = [
        str.rjust if each else str.ljust for each in numeric
    ]
    for line in (heads, *cells):
        fields = zip(aligned, line, widths, strict=True)
        yield "  ".join(align(text, width) for align, text, width in fields).rstrip()
    if next(left, None) is not None:
        yield f"… more than {limit} rows: --limit, --json, --csv or --parquet give more"


def require_distinct(columns: Sequence[str]) -> None:
    """Raise UsageError when two columns have one name: where names are keys one would be lost."""
    name, count = Counter(columns).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{count} columns are named '{name}': give each a name of its own with AS")


def kinds(columns: Sequence[str], rows: Iterable[Row]) -> dict[str, Kind]:
    """What each column of an answer holds, once all its rows are seen.

    Text in the form of the database's moments is moments. Raises UsageError for a column that
    holds numbers and text: one of a Parquet file has one type.
    """
    require_distinct(columns)
    seen: list[set[Kind]] = [set() for _ in columns]
    for row in rows:
        for found, value in zip(seen, row, strict=True):
            if value is not None:
                found.add(_kind(value))
    return {name: _common(name, found) for name, found in zip(columns, seen, strict=True)}


def moment(text: str) -> datetime | None:
    """The moment (UTC) that stands in the database in this form; `None` for any other text."""
    if not _MOMENT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # the 31st of February
        return None


def _kind(value: object) -> Kind:
    if isinstance(value, str):
        return Kind.MOMENT if moment(value) else Kind.TEXT
    return {int: Kind.INTEGER, float: Kind.NUMBER, bytes: Kind.BYTES}[type(value)]


def _common(name: str, found: set[Kind]) -> Kind:
    if len(found) <= 1:
        return next(iter(found), Kind.TEXT)
    for each in (Kind.NUMBER, Kind.TEXT):
        if found == {each, {Kind.NUMBER: Kind.INTEGER, Kind.TEXT: Kind.MOMENT}[each]}:
            return each
    raise UsageError(
        f"column '{name}' holds {' and '.join(sorted(found))}: CAST it, a column of a Parquet file "
        "has one type"
    )


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bytes):
        return value.hex()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
