"""Answers are valid objects of the film's own study that say what the worker decided."""

import importlib.util
import io
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from models.cards import Calibration, FindingCode
from tests.interop import workshop
from tests.standin import exported_card
from worker.imaging.attributes import PATIENT_AND_STUDY
from worker.imaging.decode import decode
from worker.imaging.header import attributes_of
from worker.imaging.limits import DecodeLimits
from worker.imaging.prepare import display_levels, encode_picture
from worker.interop.errors import Impossible
from worker.interop.make import encoded, subject_of
from worker.records import Decision, Record
from worker.store.answers import Origin
from worker.store.queries import StoredScreening

REFUSED = (Decision.REFUSED, "outside-validated-population")
DECISIONS = [(Decision.PNEUMONIA, None), (Decision.NORMAL, None), (Decision.INDETERMINATE, None)]
CHEST = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom" / "chest"
RG1 = ("RG1_UNCI", "RG1_J2KR", "RG1_UNCR", "RG1_J2KI")


def real_films():
    spec = importlib.util.find_spec("data_store")
    there = [Path(place) for place in spec.submodule_search_locations] if spec else []
    rg1 = [folder / "data" / f"{name}.dcm" for folder in there for name in RG1]
    return [*sorted(CHEST.glob("*.dcm")), *(path for path in rg1 if path.exists())]


@pytest.fixture
def answers(card, noon, tmp_path):
    """Make both answers of a film: kind → path."""

    def make(data, decision=Decision.PNEUMONIA, reason=None, card=card):
        film, found = decode(data), attributes_of(data, DecodeLimits())
        record = Record(
            file="film.dcm",
            sha256=found.sha256,
            decision=decision,
            probability=0.8125,
            threshold=0.6,
            guard_score=0.2,
            guard_threshold=0.5,
            reason=reason,
            message="the message of the decision",
            model=card.name,
            weights_sha256=card.weights.sha256,
        )
        stored = StoredScreening(
            record=record,
            card=card,
            evidence=np.linspace(-2, 4, 49, dtype=np.float32).reshape(7, 7),
            picture="pictures/1.jpg",
            page="films/1.html",
            format=film.format,
            rows=film.rows,
            columns=film.columns,
            tags=film.tags,
            notes=film.notes,
            run=1,
            screened_at=noon,
            files=("film.dcm",),
        )
        picture = encode_picture(display_levels(film.pixels, 512), 85)
        origin = Origin(found.sha256, "ab" * 32, "1.0", None, False, False, ())
        subject = subject_of(stored, origin, found)
        paths = {}
        for kind in ("sr", "sc"):
            uid, content = encoded(subject, kind, lambda: picture)
            paths[kind] = tmp_path / f"{uid}.dcm"
            paths[kind].write_bytes(content)
        return paths

    return make


def group_of(path):
    """The content of the measurement group of an SR: meaning of the name → its values."""
    ds = pydicom.dcmread(path)
    measurements = next(i for i in ds.ContentSequence if _name(i) == "Imaging Measurements")
    (group,) = measurements.ContentSequence
    found = {}
    for item in group.ContentSequence:
        found.setdefault(_name(item), []).append(item)
    return found


def _as_json(answers):
    return [
        pydicom.dcmread(io.BytesIO(content)).to_json_dict(bulk_data_threshold=1 << 30)
        for content in answers.values()
    ]


def _name(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def code(item):
    concept = item.ConceptCodeSequence[0]
    value = concept.get("CodeValue") or concept.get("LongCodeValue")
    return value, concept.CodingSchemeDesignator


@pytest.mark.parametrize("film", real_films(), ids=lambda path: path.stem)
def test_answers_of_real_films_are_valid_objects_of_their_study(answers, film):
    data = film.read_bytes()
    source = pydicom.dcmread(io.BytesIO(data))
    for decision, reason in (DECISIONS[0], REFUSED):
        for path in answers(data, decision, reason).values():
            assert workshop.errors_of(path) == []
            answer = pydicom.dcmread(path)
            assert answer.StudyInstanceUID == source.StudyInstanceUID
            assert answer.PatientID == (source.get("PatientID") or "")
            assert str(answer.PatientName) == str(source.get("PatientName") or "")
            assert (answer.StudyDate or "") == (source.get("StudyDate") or "")
            assert answer.SeriesInstanceUID != source.SeriesInstanceUID
            assert workshop.tool("dcmdump", path).startswith("\n# Dicom-File-Format")


def test_what_the_film_says_of_patient_and_study_is_repeated_in_every_script(answers):
    data = workshop.film()
    source = pydicom.dcmread(io.BytesIO(data))
    for path in answers(data).values():
        answer = pydicom.dcmread(path)
        said = {key: str(source[key].value) for key in PATIENT_AND_STUDY if key in source}
        assert {key: str(answer[key].value) for key in said} == said


@pytest.mark.parametrize(
    ("decision", "reason", "presence"),
    [
        (Decision.PNEUMONIA, None, ("10828004", "SCT")),
        (Decision.NORMAL, None, ("260385009", "SCT")),
        (Decision.INDETERMINATE, None, ("82334004", "SCT")),
        (*REFUSED, ("373121007", "SCT")),
    ],
)
def test_the_report_says_the_decision(answers, decision, reason, presence):
    path = answers(workshop.film(), decision, reason)["sr"]
    group = group_of(path)
    assert code(group["Finding"][0]) == ("233604007", "SCT")
    assert code(group["Presence of property"][0]) == presence
    assert code(group["Decision of the algorithm"][0]) == (decision, "99SCREEN")
    comments = [item.TextValue for item in group["Comment"]]
    assert comments[0].startswith("AI, not for diagnosis")
    assert decision in comments[1]
    assert "the message of the decision" in comments[1]
    assert reason is None or reason in comments[1]
    shown = workshop.tool("dsrdump", "-Ee", path)
    assert f'({decision},99SCREEN,"{decision}")' in shown
    flags = [re.sub(r"\s+", " ", line) for line in shown.splitlines() if "Flag" in line]
    assert flags == [
        "Preliminary Flag : PRELIMINARY",
        "Completion Flag : COMPLETE",
        "Verification Flag : UNVERIFIED",
    ]


def test_a_probability_stands_only_where_it_is_one(answers, new_card):
    film = workshop.film()
    certainty = group_of(answers(film)["sr"])["Certainty of Finding"][0].MeasuredValueSequence[0]
    assert float(certainty.NumericValue) == 81.25
    assert certainty.MeasurementUnitsCodeSequence[0].CodeValue == "%"
    raw = new_card(calibration=Calibration(slope=1, offset=0, fitted_on="nothing"))
    for refused in (answers(film, *REFUSED), answers(film, card=raw)):
        assert "Certainty of Finding" not in group_of(refused["sr"])


@pytest.mark.parametrize("decision", [Decision.NORMAL, Decision.INDETERMINATE])
def test_the_probability_of_an_absent_finding_is_no_certainty(answers, decision):
    path = answers(workshop.film(), decision)["sr"]
    group = group_of(path)
    assert "Certainty of Finding" not in group
    (item,) = group["Calibrated probability of Pneumonia"]
    assert item.ConceptNameCodeSequence[0].LongCodeValue == "probability 233604007"
    assert float(item.MeasuredValueSequence[0].NumericValue) == 81.25
    assert workshop.errors_of(path) == []


def test_what_was_not_calibrated_is_not_called_so(answers, new_card):
    raw = new_card(calibration=Calibration(slope=1, offset=0, fitted_on="nothing"))
    parameters = group_of(answers(workshop.film(), card=raw)["sr"])["Algorithm Parameters"]
    assert "uncalibrated score" in parameters[0].TextValue
    assert "calibrated probability" not in parameters[0].TextValue


def test_the_algorithm_is_a_device_with_version_threshold_and_uid(answers, card):
    for path in answers(workshop.film()).values():
        answer = pydicom.dcmread(path)
        (item,) = answer.ContributingEquipmentSequence[:1]
        assert answer.SoftwareVersions == item.SoftwareVersions == card.version
        assert item.DeviceUID.startswith("2.25.")
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    group = group_of(answers(workshop.film())["sr"])
    assert group["Algorithm Version"][0].TextValue == card.version
    assert group["Algorithm Parameters"][0].TextValue.startswith("threshold = 0.6 ")
    assert group["Source of Measurement"][0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (
        workshop.FILM
    )


def test_the_same_film_makes_the_same_bytes_and_another_model_other_uids(answers):
    first = {kind: path.read_bytes() for kind, path in answers(workshop.film()).items()}
    again = {kind: path.read_bytes() for kind, path in answers(workshop.film()).items()}
    assert _as_json(first) == _as_json(again)
    assert first == again
    other = answers(workshop.film(PatientID="P-2"))
    uids = {pydicom.dcmread(path).SOPInstanceUID for path in other.values()}
    uids |= {pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID for content in first.values()}
    assert len(uids) == 4


def test_a_model_that_looks_for_something_else_never_says_pneumonia(answers, new_card):
    labels = ("CLEAR", "PNEUMOTHORAX_OR_EFFUSION")
    own = new_card(labels=labels)
    path = answers(workshop.film(), labels[1], card=own)["sr"]
    assert code(group_of(path)["Finding"][0]) == (labels[1], "99SCREEN")
    assert workshop.errors_of(path) == []
    coded = new_card(
        labels=labels,
        finding_code=FindingCode(value="36118008", scheme="SCT", meaning="Pneumothorax"),
    )
    path = answers(workshop.film(), labels[1], card=coded)["sr"]
    assert code(group_of(path)["Finding"][0]) == ("36118008", "SCT")


def test_the_picture_is_the_film_with_its_words_below(answers):
    path = answers(workshop.film(BurnedInAnnotation="NO"))["sc"]
    answer = pydicom.dcmread(path)
    assert answer.BurnedInAnnotation == "NO"
    assert answer.BodyPartExamined == "CHEST"
    assert answer.PatientOrientation == ["L", "F"]
    assert answer.LossyImageCompression == "01"
    (source,) = answer.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == workshop.FILM
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    picture = path.with_suffix(".png")
    workshop.tool("dcm2pnm", "--write-png", path, picture)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert (pixels == answer.pixel_array).all()
    film_rows = 1024 * 120 // 160
    assert pixels.shape[0] > film_rows
    assert len(np.unique(pixels[film_rows:].reshape(-1, 3), axis=0)) > 20


def test_a_refused_film_has_no_heat_map(answers):
    with_map, without = (
        pydicom.dcmread(answers(workshop.film(), *decision)["sc"]).pixel_array[:760]
        for decision in (DECISIONS[0], REFUSED)
    )
    assert (without[..., 0] == without[..., 2]).all()
    assert (with_map[..., 0] != with_map[..., 2]).any()


def test_what_an_int8_file_answered_has_no_heat_map_either(answers):
    """It may be far off, and the picture travels without its report."""
    by_int8 = answers(workshop.film(), card=exported_card("onnx", "int8"))["sc"]
    film = pydicom.dcmread(by_int8).pixel_array[:760]
    assert (film[..., 0] == film[..., 2]).all()
    by_float32 = answers(workshop.film(), card=exported_card("onnx"))["sc"]
    film = pydicom.dcmread(by_float32).pixel_array[:760]
    assert (film[..., 0] != film[..., 2]).any()


def test_what_the_film_does_not_say_of_burned_in_names_the_answer_does_not_either(answers):
    assert "BurnedInAnnotation" not in pydicom.dcmread(answers(workshop.film())["sc"])
    marked = answers(workshop.film(BurnedInAnnotation="YES"))["sc"]
    assert pydicom.dcmread(marked).BurnedInAnnotation == "YES"


HOSTILE = {
    "AccessionNumber": "A" * 60,
    "StudyDate": "2026.5.3",
    "StudyTime": "noon",
    "PatientSex": "male",
    "PatientAge": "58",
    "PatientBirthDate": "d14a028c2a3a2bc9",
    "PatientName": "A" * 200,
    "StudyDescription": "x" * 5000,
    "ReferringPhysicianName": "a^b^c^d^e^f^g",
    "BurnedInAnnotation": "MAYBE",
    "PatientIdentityRemoved": "YES",
    "ImageLaterality": "X",
    "BodyPartExamined": "Brustkorb <script>",
    "PatientOrientation": ["up", "down"],
    "StudyID": "\x1b[31m red",
    "TimezoneOffsetFromUTC": "local",
}


@pytest.mark.parametrize("keyword", HOSTILE)
def test_a_value_that_breaks_the_rules_is_left_out(answers, keyword):
    for path in answers(workshop.film(**{keyword: HOSTILE[keyword]})).values():
        assert workshop.errors_of(path) == []
        assert not pydicom.dcmread(path).get(keyword)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "P" * 65),
        ("PatientID", "P\x071"),
        ("StudyInstanceUID", "1.2.x"),
        ("StudyInstanceUID", "1.2.003"),
        ("SeriesInstanceUID", None),
        ("SOPInstanceUID", None),
    ],
)
def test_where_patient_or_study_cannot_be_named_there_is_no_answer(answers, keyword, value):
    with pytest.raises(Impossible, match=keyword):
        answers(workshop.film(**{keyword: value}))


@pytest.mark.parametrize("part", ["HAND", "ABDOMEN", "THORAX", None])
def test_refused_films_of_other_parts_have_valid_answers_too(answers, part):
    film = workshop.film(BodyPartExamined=part)
    for path in answers(film, Decision.REFUSED, "wrong-body-part").values():
        assert workshop.errors_of(path) == []


def test_names_reach_no_warning(answers, recwarn):
    answers(workshop.film(PatientName="OneWord", ReferringPhysicianName="Another"))
    assert not [each for each in recwarn if "Word" in str(each) or "Another" in str(each)]
