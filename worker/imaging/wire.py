"""The language between the pool and its decoder children: a JSON line, then raw bytes.

No pickle: the parent trusts nothing that a child says. Every size and type is checked here.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from worker.errors import FilmError, film_error
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.records import PreparedFilm, Reason, Refusal, Tags

READY = b"ready\n"  # a child says so when its libraries are loaded
HEADER_BYTES = 65_536  # the longest header line
_MESSAGE_CHARS, _NOTE_CHARS, _TAG_CHARS, _MAX_NOTES = 500, 300, 64, 20
_FLOAT_BYTES, _DIGEST_CHARS = 4, 64
_SIDE_PX = 2**31 - 1


class BadAnswer(Exception):
    """A child said something that no decoder says."""


@dataclass(frozen=True)
class Header:
    """A checked header line: an error, or the sizes of the blobs that follow it."""

    fields: dict[str, Any]
    error: FilmError | OSError | None
    blob_bytes: int
    last: bool  # the child leaves after this answer


def settings_line(settings: PrepareSettings, limits: DecodeLimits) -> str:
    """Settings and limits as the child's command-line argument."""
    return json.dumps({"settings": asdict(settings), "limits": asdict(limits)})


def parse_settings(line: str) -> tuple[PrepareSettings, DecodeLimits]:
    """The reverse of `settings_line`."""
    values = json.loads(line)
    return PrepareSettings(**values["settings"]), DecodeLimits(**values["limits"])


def request(path: Path) -> bytes:
    """Ask for one film; the path goes as hex, since names hold newlines and any other byte."""
    return json.dumps({"path": os.fsencode(path).hex()}).encode() + b"\n"


def parse_request(line: bytes) -> Path:
    """The reverse of `request`."""
    return Path(os.fsdecode(bytes.fromhex(json.loads(line)["path"])))


def error_answer(error: FilmError, last: bool) -> bytes:
    """The child's answer for a film that could not be decoded."""
    return _line({"error": error.slug, "message": str(error)[:_MESSAGE_CHARS], "last": last})


def system_answer(error: OSError) -> bytes:
    """The child's answer when disk or share refused: no film is to blame."""
    return _line({"errno": error.errno or 0})


def film_answer(film: PreparedFilm) -> tuple[bytes, ...]:
    """The child's answer for a decoded film: header, model input, picture."""
    header = {
        "sha256": film.sha256,
        "format": film.format,
        "rows": film.rows,
        "columns": film.columns,
        "tags": asdict(film.tags),
        "notes": [note[:_NOTE_CHARS] for note in film.notes[:_MAX_NOTES]],
        "refusal": asdict(film.refusal) if film.refusal else None,
        "picture_bytes": len(film.picture),
    }
    model_input = np.ascontiguousarray(film.model_input, dtype="<f4")
    return _line(header), model_input.tobytes(), film.picture


def parse_header(line: bytes, settings: PrepareSettings) -> Header:
    """Check a header line; raises BadAnswer."""
    try:
        values = json.loads(line)
        if "errno" in values:
            number = int(values["errno"])
            return Header({}, OSError(number, os.strerror(number)), 0, last=False)
        if "error" in values:
            error = film_error(str(values["error"]), str(values["message"])[:_MESSAGE_CHARS])
            return Header({}, error, 0, bool(values.get("last")))
        picture = _count(values["picture_bytes"], 4 * settings.picture_px**2 + HEADER_BYTES)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadAnswer("no valid header") from error
    return Header(values, None, settings.size_px**2 * _FLOAT_BYTES + picture, last=False)


def parse_film(header: Header, blobs: bytes, settings: PrepareSettings) -> PreparedFilm:
    """Put header and blobs together; raises BadAnswer for anything out of range."""
    side = settings.size_px
    cut = side * side * _FLOAT_BYTES
    model_input = np.frombuffer(blobs[:cut], dtype="<f4").reshape(side, side).astype(np.float32)
    if not (model_input.min() >= 0 and model_input.max() <= 1):  # catches NaN too
        raise BadAnswer("model input outside [0, 1]")
    values = header.fields
    try:
        return PreparedFilm(
            sha256=_text(values["sha256"], _DIGEST_CHARS),
            model_input=model_input,
            picture=blobs[cut:],
            format=_text(values["format"], _TAG_CHARS),
            rows=_count(values["rows"], _SIDE_PX),
            columns=_count(values["columns"], _SIDE_PX),
            tags=_tags(values["tags"]),
            notes=tuple(_text(note, _NOTE_CHARS) for note in values["notes"][:_MAX_NOTES]),
            refusal=_refusal(values["refusal"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer("no valid film") from error


def _tags(values: dict[str, Any]) -> Tags:
    checked: dict[str, Any] = {}
    for field in fields(Tags):
        value = values[field.name]
        if field.name == "patient_age_years":
            checked[field.name] = None if value is None else float(value)
        else:
            checked[field.name] = None if value is None else _text(value, _TAG_CHARS)
    return Tags(**checked)


def _refusal(value: dict[str, Any] | None) -> Refusal | None:
    if value is None:
        return None
    return Refusal(Reason(value["reason"]), _text(value["message"], _MESSAGE_CHARS))


def _text(value: object, longest: int) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value[:longest]


def _count(value: object, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError("not a count in range")
    return value


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"
