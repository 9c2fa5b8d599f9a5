"""The log: one line, or one JSON object, for each event, with our ids and nothing of a patient.

A library would put out whatever it is given. These formatters put out the fields that are named
here, escape what could forge a line, and leave out the text of exceptions.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

Format = Literal["text", "json"]

FIELDS = (
    *("file", "run", "claim", "model", "slug", "state", "errno", "signal", "strikes", "wait_s"),
    *("films", "pages", "reports", "freed_bytes", "count", "kind", "device", "precision"),
)
_OURS = ("worker", "models", "root", "__main__")


def set_up(form: Format = "text") -> None:
    """Write the log to stderr; calling it again changes the form. Other packages only on errors."""
    root = logging.getLogger()
    mine = next((h for h in root.handlers if isinstance(h.formatter, _Formatter)), None)
    if mine is None:
        mine = logging.StreamHandler(sys.stderr)
        mine.addFilter(_is_ours_or_grave)
        root.addHandler(mine)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
    mine.setFormatter(JsonFormatter() if form == "json" else TextFormatter())


def _is_ours_or_grave(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] in _OURS or record.levelno >= logging.ERROR


class _Formatter(logging.Formatter):
    """What both forms share: the fields of an event, in order."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Time (UTC, ISO 8601), level, message, then those of FIELDS that the event has."""
        moment = datetime.fromtimestamp(record.created, UTC)
        said = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        said |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0]:
            said["error"] = record.exc_info[0].__name__  # its text may hold names and tags
        return said


class TextFormatter(_Formatter):
    """One line: time, level, message, then `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format an event; what is not printable is escaped, so that it stays one line."""
        time, level, message, *more = self.fields(record).items()
        parts = [time[1], level[1], message[1], *(f"{name}={value}" for name, value in more)]
        return "".join(map(_escaped, " ".join(map(str, parts))))


class JsonFormatter(_Formatter):
    """One JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format an event; all but ASCII is escaped."""
        return json.dumps(self.fields(record), default=str)


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
