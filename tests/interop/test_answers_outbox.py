"""Answers are asked for with the result, made once, and made again alike after any death."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import numpy as np
import pydicom
import pytest
from sqlalchemy import event, text

from tests.conftest import database_section, screen_environment
from tests.interop import workshop
from worker.config import load_config
from worker.errors import DecoderCrashed
from worker.failpoints import ANSWER_FAILPOINTS, arm
from worker.interop.answerer import Answerer, Done
from worker.interop.answering import answer_all, answering
from worker.site import hold_site
from worker.store.answers import (
    ask_again,
    ask_for_missing,
    counts,
    due,
    settle,
    without_identity,
)

pytestmark = pytest.mark.databases

WRITING = ("file-created", "file-written", "file-synced", "file-renamed")


@pytest.fixture
def config(site):
    text = '[dicom]\nresults = ["sr", "sc"]\n' + database_section(site)
    (site.root / "config.toml").write_text(text)
    return load_config(site.root / "config.toml")


@pytest.fixture
def engine(config):
    with hold_site(config) as engine:
        yield engine


@pytest.fixture
def archive(tmp_path):
    """A folder with films: name → content."""
    folder = tmp_path / "archive"
    folder.mkdir()

    def fill(**films):
        for name, content in films.items():
            (folder / f"{name}.dcm").write_bytes(content)
        return folder

    return fill


@pytest.fixture
def screen_films(config, engine, card, noon, archive):
    def screen(config=config, **films):
        screener = workshop.FilmScreener(card)
        return workshop.screened(config, engine, screener, archive(**films), noon)

    return screen


@pytest.fixture
def answerer(config, engine, noon):
    made = Answerer(engine, config, lambda: None, clock=lambda: noon + timedelta(hours=1))
    yield made
    made.close()


def rows(engine):
    with engine.connect() as connection:
        asked = text("SELECT kind, state, file, attempts, message FROM answers ORDER BY id")
        return [row._asdict() for row in connection.execute(asked)]


def files(config):
    folder = config.dicom.answers
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_answers_are_asked_for_with_the_result_and_made(config, engine, screen_films, answerer):
    screen_films(a=workshop.film(), b=workshop.film(PatientID="P-2"))
    assert counts(engine)["due"] == 4
    assert answerer.work_off().counts == {"made": 4}
    stored = files(config)
    assert {row["file"] for row in rows(engine)} == set(stored)
    for name in stored:
        path = config.dicom.answers / name
        assert pydicom.dcmread(path).file_meta.MediaStorageSOPInstanceUID == path.stem
        assert path.stat().st_mode & 0o777 == int(config.site.file_mode, 8)
    assert answerer.work_off().counts == {}


def test_films_without_identity_and_duplicates_get_none(engine, screen_films):
    one = workshop.film()
    screen_films(a=one, b=one, c=workshop.film(StudyInstanceUID=None))
    assert counts(engine)["due"] == 2
    assert without_identity(engine) == 1


def test_a_site_that_wants_none_gets_none_and_can_ask_later(site, engine, screen_films, noon):
    screen_films(config=site, a=workshop.film())
    assert rows(engine) == []
    assert ask_for_missing(engine, ("sr",), noon) == 1
    assert ask_for_missing(engine, ("sr", "sc"), noon) == 1
    assert ask_for_missing(engine, ("sr", "sc"), noon) == 0


def test_what_is_missing_is_asked_for_in_pieces_of_the_newest_screenings(
    site, engine, screen_films, archive, card, noon, monkeypatch
):
    films = {f"f{n}": workshop.film(PatientID=f"P{n}") for n in range(5)}
    screen_films(config=site, **films)
    newer = workshop.FilmScreener(card)
    newer.preprocessing = "another"
    workshop.screened(site, engine, newer, archive(), noon)
    begun = []
    monkeypatch.setattr("worker.store.answers._AT_ONCE", 2)
    event.listen(engine, "begin", lambda _connection: begun.append(1))
    assert ask_for_missing(engine, ("sr",), noon) == 5
    assert len(begun) == 4  # of two, two, one and none
    with engine.connect() as connection:
        newest = connection.scalars(text("SELECT max(id) FROM screenings GROUP BY film_id"))
        asked = connection.scalars(text("SELECT screening_id FROM answers"))
        assert set(asked) == set(newest)


def test_a_transaction_that_fails_asks_for_nothing(engine, screen_films):
    def fail(name):
        if name == "outcomes-written":
            raise OSError(28, os.strerror(28))

    disarm = arm(fail)
    try:
        with pytest.raises(OSError, match=os.strerror(28)):
            screen_films(a=workshop.film())
    finally:
        disarm()
    assert rows(engine) == []


def test_statements_do_not_grow_with_the_batch(engine, screen_films):
    sent, sizes = [], []
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    for start, count in ((0, 1), (100, 6)):
        films = {f"f{n}": workshop.film(PatientID=f"P{n}") for n in range(start, start + count)}
        sent.clear()
        screen_films(**films)
        sizes.append(len([each for each in sent if "answers" in each]))
    assert sizes == [1, 1]


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (lambda path: path.unlink(), "gone"),
        (lambda path: path.write_bytes(workshop.film(PatientID="other")), "changed"),
        (lambda path: path.write_bytes(b"no film"), "cannot be read"),
    ],
)
def test_a_film_that_is_not_there_as_it_was_has_no_answer(
    engine, screen_films, answerer, tmp_path, deed, why
):
    screen_films(a=workshop.film(), b=workshop.film(PatientID="P-2"))
    deed(tmp_path / "archive" / "a.dcm")
    assert answerer.work_off().counts == {"made": 2, "impossible": 2}
    assert [why in (row["message"] or "") for row in rows(engine)] == [True, True, False, False]


def test_a_missing_picture_costs_only_the_picture(config, engine, screen_films, answerer):
    screen_films(a=workshop.film())
    for picture in (config.site.reports / "pictures").iterdir():
        picture.unlink()
    answerer.work_off()
    assert [(row["kind"], row["state"]) for row in rows(engine)] == [
        ("sr", "made"),
        ("sc", "impossible"),
    ]


def test_what_disk_or_share_refuses_is_no_attempt(
    engine, screen_films, answerer, monkeypatch, noon
):
    def refuse(*_arguments):
        raise OSError(5, os.strerror(5))

    screen_films(a=workshop.film())
    with monkeypatch.context() as patched:
        patched.setattr("worker.interop.answerer.attributes_of_film", refuse)
        for _ in range(5):
            assert answerer.work_off().trouble == os.strerror(5)
            with engine.begin() as connection:
                connection.execute(text("UPDATE answers SET due_at = '2026-01-01 00:00:00'"))
    assert {(row["state"], row["attempts"]) for row in rows(engine)} == {("due", 0)}
    assert answerer.work_off().counts == {"made": 2}


def test_a_full_disk_is_no_attempt(engine, screen_films, answerer, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, os.strerror(28))

    screen_films(a=workshop.film())
    monkeypatch.setattr("worker.interop.answerer.write_all_atomic", full)
    with pytest.raises(OSError, match=os.strerror(28)):
        answerer.work_off()
    assert {(row["state"], row["attempts"]) for row in rows(engine)} == {("due", 0)}


def test_a_film_that_takes_its_decoder_down_is_given_up(
    engine, screen_films, answerer, monkeypatch
):
    def die(*_arguments):
        raise DecoderCrashed("died")

    screen_films(a=workshop.film())
    monkeypatch.setattr("worker.interop.answerer.attributes_of_film", die)
    for _ in range(8):
        answerer.work_off()
        with engine.begin() as connection:
            connection.execute(text("UPDATE answers SET due_at = '2026-01-01 00:00:00'"))
    assert {row["state"] for row in rows(engine)} == {"impossible"}


def test_an_error_of_ours_stops_no_other_answer(engine, screen_films, answerer, monkeypatch):
    def fail(_subject):
        raise RuntimeError("Weiß^Jürgen")

    screen_films(a=workshop.film())
    monkeypatch.setattr("worker.interop.make.structured_report", fail)
    answerer.work_off()
    assert [row["state"] for row in rows(engine)] == ["impossible", "made"]
    assert "Weiß" not in rows(engine)[0]["message"]


def test_what_nobody_foresaw_is_logged_counted_and_stops_nothing(
    config, engine, screen_films, monkeypatch, caplog
):
    def fail(*_arguments):
        raise RuntimeError("Weiß^Jürgen")

    screen_films(a=workshop.film())
    monkeypatch.setattr("worker.interop.answerer.attributes_of_film", fail)
    answer_all(engine, config, lambda: None)
    assert "an answer could not be made" in caplog.messages
    assert {(row["state"], row["attempts"]) for row in rows(engine)} == {("due", 1)}
    monkeypatch.setattr("worker.interop.answering.Answerer.work_off", fail)
    answer_all(engine, config, lambda: None)
    assert "making answers failed" in caplog.messages


def test_want_of_memory_is_no_attempt(engine, screen_films, answerer, monkeypatch):
    def fail(_subject):
        raise MemoryError

    screen_films(a=workshop.film())
    with monkeypatch.context() as patched:
        patched.setattr("worker.interop.make.structured_report", fail)
        assert answerer.work_off().trouble == "out of memory"
    assert {(row["state"], row["attempts"]) for row in rows(engine)} == {("due", 0)}


def test_half_written_answers_that_stay_hold_up_no_screening(config, engine, monkeypatch, caplog):
    def refuse(_folder):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("worker.interop.answering.remove_half_written", refuse)
    with answering(engine, config, lambda: None):
        pass
    answer_all(engine, config, lambda: None)
    assert caplog.messages.count(f"answers paused: {os.strerror(13)}") == 2


def test_what_was_not_begun_at_the_end_counts_no_attempt(engine, screen_films, answerer):
    screen_films(a=workshop.film(), b=workshop.film(PatientID="P-2"))
    stop, build = threading.Event(), answerer._build

    def build_and_stop(*arguments):
        build(*arguments)
        stop.set()

    answerer._build = build_and_stop
    assert answerer.work_off(stop).counts == {"made": 2, "due": 2}
    assert [row["attempts"] for row in rows(engine)] == [0, 0, 0, 0]


def test_again_during_a_sending_is_not_lost(engine, screen_films, answerer, noon):
    screen_films(a=workshop.film())
    answerer.work_off()
    sending = due(engine, "made", noon + timedelta(hours=2), 10)
    ask_again(engine, None, noon)
    for each in sending:
        settle(engine, each, noon, state="sent", sent_at=noon)
    assert counts(engine)["due"] == 2


def test_an_answer_stands_that_cannot_be_made_anew(
    config, engine, screen_films, answerer, tmp_path, noon
):
    screen_films(a=workshop.film())
    answerer.work_off()
    before = files(config)
    (tmp_path / "archive" / "a.dcm").unlink()
    ask_again(engine, None, noon)
    assert answerer.work_off().counts == {"made": 2}
    assert files(config) == before
    assert all("could not be made anew" in row["message"] for row in rows(engine))


def test_an_answer_that_was_tried_before_goes_alone(engine, screen_films, answerer, noon):
    screen_films(a=workshop.film(), b=workshop.film(PatientID="P-2"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE answers SET attempts = 1 WHERE id IN (1, 3)"))
    assert [each.id for each in answerer._next()] == [1]
    answerer._make(answerer._next(), Done(), threading.Event())
    assert [each.id for each in answerer._next()] == [2]
    assert len(due(engine, "due", noon, 10)) == 3


@pytest.mark.parametrize("point", [*WRITING, *ANSWER_FAILPOINTS])
def test_a_kill_at_any_step_leaves_one_whole_answer(config, engine, screen_films, point):
    screen_films(a=workshop.film())
    program = (
        "import os, signal, sys\n"
        "from worker import failpoints\n"
        f"kill = lambda name: name == {point!r} and os.kill(os.getpid(), signal.SIGKILL)\n"
        "failpoints.arm(kill)\n"
        "from worker.cli.main import main\n"
        "sys.argv = ['screen', 'answer']\n"
        "main()\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program], cwd=config.root, env=screen_environment(), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    whole = {name for name in files(config) if not name.split("/")[-1].startswith(".")}
    for name in whole:
        pydicom.dcmread(config.dicom.answers / name)
    answer_all(engine, config, lambda: None)
    assert {row["state"] for row in rows(engine)} == {"made"}
    named = {row["file"] for row in rows(engine)}
    assert len(named) == 2
    assert whole <= named == set(files(config))


def test_the_command_says_what_it_made_and_what_is_impossible(config, engine, screen_films, screen):
    screen_films(a=workshop.film(), b=workshop.film(PatientID="P-2"))
    (config.root.parent / "archive" / "b.dcm").unlink()
    said = screen("answer", cwd=config.root)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("made s") == 2
    assert said.stdout.count("impossible: ") == 2
    assert "0 due, 2 made, 0 sent, 2 impossible; 0 films have no DICOM identity" in said.stdout
    again = screen("answer", "--again", config.root.parent / "archive/a.dcm", cwd=config.root)
    assert again.stdout.count("made s") == 2
    assert screen("answer", "--again", "nothing.dcm", cwd=config.root).returncode == 2


def test_nothing_of_the_patient_is_stored_or_logged(config, engine, screen_films, screen):
    screen_films(a=workshop.film(PatientName="Verraten^Nie", PatientID="GEHEIM-9"))
    said = screen("answer", cwd=config.root)
    engine.dispose()
    kept = b"".join(path.read_bytes() for path in config.root.glob("screen.db*"))
    for secret in ("Verraten", "GEHEIM-9"):
        assert secret not in said.stdout + said.stderr
        assert secret.encode() not in kept


def test_pictures_are_those_of_the_report(config, engine, screen_films, answerer):
    screen_films(a=workshop.film())
    answerer.work_off()
    (name,) = (row["file"] for row in rows(engine) if row["kind"] == "sc")
    pixels = pydicom.dcmread(config.dicom.answers / name).pixel_array[:700].astype(int)
    assert np.abs(np.diff(pixels.mean(axis=(1, 2)))).max() < 30  # the ramp, not some other film
