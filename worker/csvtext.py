"""CSV that spreadsheets open safely, and that programs read back as it was."""

import csv
import io
import re
from collections.abc import Iterable

# What makes a spreadsheet take text for a formula (OWASP, CSV Injection), wide forms too. Some drop
# blanks, quotes, controls and unseen marks before it. A text that begins with our own mark gets one
# more, so that taking one mark off gives back what there was.
_FORMULA = re.compile(
    r"""[\t\r\n']|[\s\x00-\x20\x7f-\xa0"'\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]*[=+@＝＋＠－-]"""
)
_MARK = "'"


def csv_line(values: Iterable[object]) -> str:
    """One record (RFC 4180), ended by CR LF: open files with `newline=""`.

    Text that a spreadsheet would run as a formula gets a leading single quote, and so does text
    that begins with one: who reads text takes one off. Numbers never do. Bytes of a file name that
    are no text (lone surrogates) and NUL become backslash escapes.
    """
    line = io.StringIO(newline="")
    csv.writer(line).writerow(map(_cell, values))
    return line.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", r"\x00")
    return _MARK + text if _FORMULA.match(text) else text
