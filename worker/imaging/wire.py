"""The language between the pool and its decoder children: a JSON line, then raw bytes.

No pickle, and no picture that the parent would have to decode: the parent trusts nothing that a
child says. Every size and type is checked here.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import (
    CorruptFile,
    FilmError,
    NoPixelData,
    NotAFilm,
    TooLarge,
    TruncatedFile,
    UnsupportedTransferSyntax,
    film_error,
)
from worker.imaging.attributes import KEYWORDS, Attributes, is_repeatable
from worker.imaging.confine import Isolation
from worker.imaging.limits import DecodeLimits, PrepareSettings
from worker.imaging.prepare import encode_picture
from worker.records import (
    IDENTIFYING,
    Film,
    Identity,
    Patient,
    PreparedFilm,
    Reason,
    Refusal,
    Tags,
)

HEADER_BYTES = 65_536  # the longest header line
_MESSAGE_CHARS, _NOTE_CHARS, _TAG_CHARS, _MAX_NOTES = 500, 300, 64, 20
_FLOAT_BYTES, _DIGEST_CHARS = 4, 64
_SIDE_PX = 2**31 - 1
_OLDEST_YEARS = 1000.0
_ASKED: dict[Identity, frozenset[str]] = {  # what a child may say of a patient
    "off": frozenset(),
    "pseudonym": frozenset({"patient_id", "issuer_of_patient_id"}),
    "clear": frozenset(field.name for field in fields(Patient)),
}
_OWN_ERRORS = (  # all that decoding raises; what happens to files is not for a child to say
    NotAFilm, TruncatedFile, CorruptFile, NoPixelData, UnsupportedTransferSyntax, TooLarge,
)  # fmt: skip


class BadAnswer(Exception):
    """A child said something that no decoder says."""


class OtherAnswer(BadAnswer):
    """An answer without this film's token: it was given before the film was."""


@dataclass(frozen=True)
class Header:
    """A checked header line: an error, or the sizes of the blobs that follow it."""

    fields: dict[str, Any]
    error: FilmError | None
    unreadable: bool  # the child could not read the film's bytes
    rows: int  # of the picture
    columns: int
    blob_bytes: int
    last: bool  # the child leaves after this answer


def settings_line(settings: PrepareSettings, limits: DecodeLimits) -> str:
    """Settings and limits as the child's command-line argument."""
    return json.dumps({"settings": asdict(settings), "limits": asdict(limits)})


def parse_settings(line: str) -> tuple[PrepareSettings, DecodeLimits]:
    """The reverse of `settings_line`."""
    values = json.loads(line)
    return PrepareSettings(**values["settings"]), DecodeLimits(**values["limits"])


def ready_line(isolation: Isolation) -> bytes:
    """What a child says when its libraries are loaded and it is confined."""
    return _line({"ready": asdict(isolation)})


def parse_ready(line: bytes) -> Isolation:
    """The reverse of `ready_line`; raises BadAnswer."""
    try:
        values = json.loads(line)["ready"]
        layers, gaps = (tuple(map(_text_of, values[key])) for key in ("layers", "gaps"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadAnswer("not ready") from error
    return Isolation(layers, gaps)


def error_answer(token: bytes, error: FilmError, last: bool) -> bytes:
    """The child's answer for a film that could not be decoded."""
    message = str(error)[:_MESSAGE_CHARS]
    return _line({"token": token.hex(), "error": error.slug, "message": message, "last": last})


def unreadable_answer(token: bytes) -> bytes:
    """The child's answer when disk or share refused: no film is to blame."""
    return _line({"token": token.hex(), "unreadable": True})


def film_answer(
    token: bytes,
    sha256: str,
    film: Film,
    model_input: NDArray[np.float32],
    picture: NDArray[np.uint8],
) -> tuple[bytes | memoryview, ...]:
    """The child's answer for a decoded film: header, model input, picture in grey levels."""
    header = {
        "token": token.hex(),
        "sha256": sha256,
        "format": film.format,
        "rows": film.rows,
        "columns": film.columns,
        "tags": asdict(film.tags),
        "patient": asdict(film.patient),
        "notes": [note[:_NOTE_CHARS] for note in film.notes[:_MAX_NOTES]],
        "refusal": asdict(film.refusal) if film.refusal else None,
        "picture": picture.shape,
    }
    floats = np.ascontiguousarray(model_input, dtype="<f4")
    return _line(header), floats.data, np.ascontiguousarray(picture).data


def attributes_answer(token: bytes, found: Attributes) -> bytes:
    """The child's answer when only attributes were asked for: a line, and no blobs."""
    return _line(
        {
            "token": token.hex(),
            "sha256": found.sha256,
            "values": dict(found.values),
            "unusable": sorted(found.unusable),
        }
    )


def parse_header(
    line: bytes, token: bytes, settings: PrepareSettings, *, attributes: bool = False
) -> Header:
    """Check a header line; raises OtherAnswer or BadAnswer. Blobs follow a film's alone."""
    rows = columns = 0
    error = None
    try:
        values = json.loads(line)
        if values["token"] != token.hex():
            raise OtherAnswer("an answer to another question")
        unreadable = bool(values.get("unreadable"))
        if "error" in values:
            error = _film_error(values["error"], values["message"])
        elif not (unreadable or attributes):
            rows, columns = (_count(side, settings.picture_px, 1) for side in values["picture"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise BadAnswer("no valid header") from wrong
    count = rows * columns
    blob_bytes = settings.size_px**2 * _FLOAT_BYTES + count if count else 0
    last = bool(values.get("last"))
    return Header(values, error, unreadable, rows, columns, blob_bytes, last)


def parse_film(header: Header, blobs: bytes | bytearray, settings: PrepareSettings) -> PreparedFilm:
    """Put header and blobs together; raises BadAnswer for anything out of range."""
    side = settings.size_px
    cut = side * side * _FLOAT_BYTES
    model_input = np.frombuffer(blobs[:cut], dtype="<f4").reshape(side, side).astype(np.float32)
    if not (model_input.min() >= 0 and model_input.max() <= 1):  # catches NaN too
        raise BadAnswer("model input outside [0, 1]")
    levels = np.frombuffer(blobs[cut:], np.uint8).reshape(header.rows, header.columns)
    values = header.fields
    try:
        return PreparedFilm(
            sha256=_digest(values["sha256"]),
            model_input=model_input,
            picture=encode_picture(levels, settings.quality),
            format=_text(values["format"], _TAG_CHARS),
            rows=_count(values["rows"], _SIDE_PX, 1),
            columns=_count(values["columns"], _SIDE_PX, 1),
            tags=_tags(values["tags"]),
            notes=tuple(_text(note, _NOTE_CHARS) for note in values["notes"][:_MAX_NOTES]),
            refusal=_refusal(values["refusal"]),
            patient=_patient(values["patient"], settings.identity),
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadAnswer("no valid film") from error


def parse_attributes(header: Header) -> Attributes:
    """The reverse of `attributes_answer`; raises BadAnswer."""
    try:
        values, unusable = header.fields["values"], header.fields["unusable"]
        known = {key: values[key] for key in KEYWORDS if key in values}
        texts = all(isinstance(text, str) and is_repeatable(text) for text in known.values())
        if not texts or known != values or not set(unusable) <= set(KEYWORDS):
            raise BadAnswer("attributes that no decoder names")
        return Attributes(_digest(header.fields["sha256"]), known, frozenset(unusable))
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer("no valid attributes") from error


def _film_error(slug: object, message: object) -> FilmError:
    """A failure that decoding can have. Raises ValueError for any other."""
    error = film_error(str(slug), _text(message, _MESSAGE_CHARS))
    if not isinstance(error, _OWN_ERRORS):
        raise ValueError("no decoder's error")
    return error


def _tags(values: dict[str, Any]) -> Tags:
    checked: dict[str, Any] = {}
    for field in fields(Tags):
        value = values[field.name]
        if field.name in IDENTIFYING and value is not None:
            raise ValueError("a patient among the tags: they are told apart")
        if field.name == "patient_age_years":
            checked[field.name] = None if value is None else _age(value)
        else:
            checked[field.name] = None if value is None else _text(value, _TAG_CHARS)
    return Tags(**checked)


def _patient(values: dict[str, Any], identity: Identity) -> Patient:
    said = {
        field.name: None if (value := values[field.name]) is None else _text(value, _TAG_CHARS)
        for field in fields(Patient)
    }
    unasked = said.keys() - _ASKED[identity]
    if any(said[name] is not None for name in unasked):
        raise ValueError("more of the patient than was asked for")
    return Patient(**said)


def _age(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= _OLDEST_YEARS:  # catches NaN too
        raise ValueError("not an age")
    return float(value)


def _refusal(value: dict[str, Any] | None) -> Refusal | None:
    if value is None:
        return None
    return Refusal(Reason(value["reason"]), _text(value["message"], _MESSAGE_CHARS))


def _digest(value: object) -> str:
    digest = _text(value, _DIGEST_CHARS)
    if len(bytes.fromhex(digest)) * 2 != _DIGEST_CHARS:
        raise ValueError("not a SHA-256")
    return digest


def _text(value: object, longest: int) -> str:
    """One line, cut to `longest` characters: it goes to pages and tables."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    return "".join(ch if ch.isprintable() else " " for ch in value[:longest])


def _text_of(value: object) -> str:
    return _text(value, _TAG_CHARS)


def _count(value: object, most: int, least: int = 0) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError("not a count in range")
    return value


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"
