"""The parent believes a decoder child nothing that it has not checked."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from worker.errors import CorruptFile, FilmError, TooLarge
from worker.imaging import wire
from worker.imaging.confine import Isolation
from worker.records import IDENTIFYING, Film, Patient, Reason, Refusal, Tags

TOKEN = bytes(range(16))
DIGEST = "ab" * 32


@pytest.fixture
def answer(settings):
    """A good answer in parts: header as a dict, and the two blobs."""
    film = Film(
        np.zeros((300, 200), np.float32),
        "DICOM",
        300,
        200,
        Tags(modality="DX", patient_age_years=5.0),
        ("a note",),
        Refusal(Reason.BLANK, "the picture has no contrast"),
    )
    model_input = np.full((224, 224), 0.5, np.float32)
    picture = np.full((300, 200), 77, np.uint8)
    header, *blobs = wire.film_answer(TOKEN, DIGEST, film, model_input, picture)
    return json.loads(header), b"".join(blobs)


def parse(answer, settings, **changes):
    header, blobs = answer
    line = json.dumps(header | changes).encode()
    return wire.parse_film(wire.parse_header(line, TOKEN, settings), blobs, settings)


def test_what_a_child_says_of_a_film_arrives(answer, settings):
    header, blobs = answer
    assert wire.parse_header(json.dumps(header).encode(), TOKEN, settings).blob_bytes == len(blobs)
    film = parse(answer, settings)
    assert (film.rows, film.columns, film.format, film.sha256) == (300, 200, "DICOM", DIGEST)
    assert (film.tags.modality, film.tags.patient_age_years) == ("DX", 5.0)
    assert film.notes == ("a note",)
    assert film.refusal == Refusal(Reason.BLANK, "the picture has no contrast")
    assert cv2.imdecode(np.frombuffer(film.picture, np.uint8), -1).shape == (300, 200)
    assert parse(answer, settings, refusal=None).refusal is None


NAMES = {
    "patient_id": "0815",
    "issuer_of_patient_id": "CLINIC",
    "patient_name": "Doe, Jane",
    "accession_number": "A77",
}


@pytest.mark.parametrize(
    ("identity", "may_say"),
    [("off", ()), ("pseudonym", ("patient_id", "issuer_of_patient_id")), ("clear", tuple(NAMES))],
)
def test_of_a_patient_arrives_only_what_was_asked_for(answer, settings, identity, may_say):
    asked = replace(settings, identity=identity)
    nothing = dict.fromkeys(NAMES)
    assert parse(answer, asked).patient == Patient()
    for name, value in NAMES.items():
        patient = nothing | {name: value}
        if name in may_say:
            assert parse(answer, asked, patient=patient).patient == Patient(**patient)
        else:
            with pytest.raises(wire.BadAnswer):
                parse(answer, asked, patient=patient)


@pytest.mark.parametrize("name", IDENTIFYING)
def test_no_patient_hides_among_the_tags(answer, settings, name):
    tags = answer[0]["tags"] | {name: "0815"}
    with pytest.raises(wire.BadAnswer):
        parse(answer, replace(settings, identity="clear"), tags=tags)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"5",
        b'"token"',
        b"nonsense",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"picture": [8, 8]}',
    ],
)
def test_a_header_that_makes_no_sense_is_not_believed(settings, line):
    with pytest.raises(wire.BadAnswer):
        wire.parse_header(line, TOKEN, settings)


@pytest.mark.parametrize(
    "picture", [[-1, 8], [0, 8], [513, 8], ["8", 8], [8], [8, 8, 8], 8, None, [8, 1e9], [8, 10**40]]
)
def test_a_picture_larger_than_asked_for_is_not_waited_for(settings, picture):
    line = json.dumps({"token": TOKEN.hex(), "picture": picture}).encode()
    with pytest.raises(wire.BadAnswer):
        wire.parse_header(line, TOKEN, settings)


def test_an_answer_to_another_film_is_told_apart(settings):
    line = wire.error_answer(bytes(16), CorruptFile("x"), last=False)
    with pytest.raises(wire.OtherAnswer):
        wire.parse_header(line, TOKEN, settings)


@pytest.mark.parametrize(
    "slug", ["decoder-crashed", "quarantined", "lost-file", "changed-file", "unreadable-file"]
)
def test_what_happens_to_files_is_not_for_a_child_to_say(settings, slug):
    line = json.dumps({"token": TOKEN.hex(), "error": slug, "message": "x"}).encode()
    with pytest.raises(wire.BadAnswer):
        wire.parse_header(line, TOKEN, settings)


def test_failures_keep_their_kind_and_one_line_of_words(settings):
    line = wire.error_answer(TOKEN, TooLarge("too\nlarge" + "x" * 1000), last=True)
    header = wire.parse_header(line, TOKEN, settings)
    assert isinstance(header.error, TooLarge)
    assert str(header.error).startswith("too large")
    assert len(str(header.error)) == 500
    assert header.last
    unknown = json.dumps({"token": TOKEN.hex(), "error": "no-such-slug", "message": "x"}).encode()
    assert isinstance(wire.parse_header(unknown, TOKEN, settings).error, FilmError)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": "256"},
        {"rows": 0},
        {"columns": 2**31},
        {"columns": 2.5},
        {"format": 5},
        {"sha256": "zz"},
        {"sha256": "ab"},
        {"refusal": {"reason": "because", "message": ""}},
        {"refusal": "blank"},
        {"tags": {}},
        {"tags": None},
        {"notes": 5},
        {"notes": {"a": 1}},
        {"notes": [5]},
    ],
)
def test_a_child_cannot_invent_outcomes(answer, settings, change):
    with pytest.raises(wire.BadAnswer):
        parse(answer, settings, **change)


@pytest.mark.parametrize("age", ["5", float("nan"), float("inf"), -1, 10**400, [5]])
def test_an_age_is_a_number_of_years(answer, settings, age):
    """A JSON integer of 400 digits was an OverflowError that no strike covered."""
    with pytest.raises(wire.BadAnswer):
        parse(answer, settings, tags=answer[0]["tags"] | {"patient_age_years": age})


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1, np.inf])
def test_a_model_input_outside_its_range_is_not_believed(answer, settings, value):
    header, blobs = answer
    wrong = np.full((224, 224), value, "<f4").tobytes() + blobs[224 * 224 * 4 :]
    with pytest.raises(wire.BadAnswer):
        parse((header, wrong), settings)


def test_a_child_is_ready_when_it_says_how_it_is_confined():
    isolation = Isolation(("seccomp",), ("open files",))
    assert wire.parse_ready(wire.ready_line(isolation)) == isolation
    for line in (b"ready", b"{}", b'{"ready": 5}', b'{"ready": {"layers": [5], "gaps": []}}'):
        with pytest.raises(wire.BadAnswer):
            wire.parse_ready(line)
