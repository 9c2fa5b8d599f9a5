"""The tables of docs/DICOM.md that list what the code agrees to, made from the code.

`python -m worker.interop.conformance docs/DICOM.md` writes them anew; a test holds the two equal.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.uid import UID

from worker.interop import contexts
from worker.interop.incoming import STATUSES

_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(document: str) -> str:
    """The document, each of its tables made anew. Raises KeyError for a table of unknown name."""
    tables = {
        "film-classes": _classes([contexts.VERIFICATION, *contexts.FILMS], "SCP"),
        "answer-classes": _classes(contexts.ANSWERS, "SCU"),
        "syntaxes": _syntaxes(),
        "statuses": _statuses(),
        "limits": _limits(),
    }
    return _TABLE.sub(lambda found: f"{found[1]}{tables[found[2]]}{found[3]}", document)


def _rows(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _classes(uids: Iterable[str], role: str) -> str:
    return _rows(("SOP class", "UID", "role"), ((UID(uid).name, f"`{uid}`", role) for uid in uids))


def _syntaxes() -> str:
    rows = []
    for uid in contexts.BY_PREFERENCE:
        note = "with the `gpl` extra only" if uid == contexts.JPEG_EXTENDED else ""
        rows.append((UID(uid).name, f"`{uid}`", note))
    return _rows(("transfer syntax", "UID", "note"), rows)


def _statuses() -> str:
    return _rows(("status", "meaning"), ((f"`{code:04X}`", w) for code, w in STATUSES.items()))


def _limits() -> str:
    rows = [
        ("greatest PDU that we ask for", f"{contexts.MAX_PDU} bytes"),
        (
            "greatest PDU; a longer one ends the connection",
            f"{contexts.MOST_PDU} bytes",
        ),
        ("greatest command set", f"{contexts.MOST_COMMAND} bytes"),
        ("associations at once", contexts.ASSOCIATIONS),
        ("until a TLS handshake or a negotiation is done", f"{contexts.NEGOTIATE_S:g} s"),
        ("silence of a peer, and the whole of one PDU", f"{contexts.IDLE_S:g} s"),
        ("until a node that we call has taken the connection", f"{contexts.CONNECT_S:g} s"),
        ("until it said what became of an answer", f"{contexts.ANSWER_S:g} s"),
        ("asynchronous operations", "none: one request at a time"),
        ("implementation class UID", f"`{contexts.IMPLEMENTATION_UID}`"),
        ("implementation version name", "`SCREEN_` and the version"),
    ]
    return _rows(("limit", "value"), rows)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(with_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
