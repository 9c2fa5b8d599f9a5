"""CSV that spreadsheets open safely."""

import csv
import io
from collections.abc import Iterable

# What makes a spreadsheet take text for a formula (OWASP, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_line(values: Iterable[object]) -> str:
    """One record (RFC 4180), ended by CR LF: open files with `newline=""`.

    Text that a spreadsheet would run as a formula gets a leading single quote; numbers never do.
    Bytes of a file name that are no text (lone surrogates) become backslash escapes.
    """
    line = io.StringIO(newline="")
    csv.writer(line).writerow(map(_cell, values))
    return line.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"'{text}" if text.startswith(_FORMULA) else text
