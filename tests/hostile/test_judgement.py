"""The test of the test: the judgement of `tests.hostile.verdict` finds every broken promise."""

import json
import shutil
import sqlite3
from collections import Counter

import pytest

from tests.hostile.bomb import chest
from tests.hostile.campaign import MARKER
from tests.hostile.films import SYNTAXES, dicom_film, source_films
from tests.hostile.realdaemon import PATIENCE_S, make_site, quick_settings, running
from tests.hostile.verdict import Fed, judge, names_in_log
from worker.config import load_config

FILMS = {
    "whole.dcm": dicom_film(chest(), SYNTAXES["explicit"]),
    "text.jpg": b"nothing like a film",
    "other.dcm": dicom_film(chest(200), SYNTAXES["implicit"]),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tiny_model, repository):
    """A small site whose daemon kept every promise, and what was fed in; copied by each test."""
    config = make_site(tmp_path_factory.mktemp("judged") / "site", quick_settings(tiny_model))
    fed = [Fed.of(name, "films", data) for name, data in FILMS.items()]
    with running(config, repository) as daemon:
        for each in fed:
            daemon.feed(each, FILMS[each.name])
        daemon.wait(daemon.is_idle, PATIENCE_S)
        assert daemon.stop() == 0
    return config.root, fed


@pytest.fixture
def tampered(judged, tmp_path):
    """A copy of that site, to be broken."""
    root, fed = judged
    shutil.copytree(root, tmp_path / "site")
    return load_config(tmp_path / "site" / "config.toml"), fed


def execute(config, statement):
    connection = sqlite3.connect(config.root / "screen.db")
    with connection:
        connection.execute(statement)
    connection.close()


def lose_a_film(config):
    (config.site.done / "whole.dcm").unlink()


def lose_a_row(config):
    execute(config, "DELETE FROM files WHERE file = 'whole.dcm'")


def report_twice(config):
    columns = "run_id, model_id, source, file, path, size, mtime_ns, state, sha256, decision, "
    columns += "probability, reason, attempts, strikes, worker_deaths, screening_id, "
    columns += "final_name, recorded_at, finished_at"
    execute(
        config,
        f"INSERT INTO files (id, claim, {columns}) "
        f"SELECT 99, 'x', {columns} FROM files WHERE file = 'whole.dcm'",
    )


def keep_it_twice(config):
    shutil.copy(config.site.done / "whole.dcm", config.site.done / "copy.dcm")


def leave_it_in_the_inbox(config):
    shutil.copy(config.site.done / "whole.dcm", config.site.inbox / "whole.dcm")


def leave_a_claim(config):
    (config.site.work / "0123").mkdir()


def change_a_film(config):
    (config.site.done / "whole.dcm").write_bytes(b"another film")


def lose_a_sidecar(config):
    (config.site.failed / "text.jpg.json").unlink()


def empty_a_sidecar(config):
    (config.site.failed / "text.jpg.json").write_text(json.dumps({}))


def invent_an_outcome(config):
    execute(config, "UPDATE failures SET reason = 'made-up'")


def forget_an_outcome(config):
    execute(config, "DELETE FROM failures")


def never_end(config):
    execute(config, "UPDATE files SET state = 'attempted' WHERE file = 'whole.dcm'")


BREAKAGES = {
    lose_a_film: "is not in done/",
    lose_a_row: "has 0 rows",
    report_twice: "has 2 rows",
    keep_it_twice: "is nobody's",
    leave_it_in_the_inbox: "is left in inbox/",
    leave_a_claim: "is left in work/",
    change_a_film: "has another content now",
    lose_a_sidecar: "without a sidecar",
    empty_a_sidecar: "without a sidecar",
    invent_an_outcome: "made-up is no outcome",
    forget_an_outcome: "failed, and has None, None",
    never_end: "is attempted for ever",
}


@pytest.mark.slow
def test_a_site_that_kept_its_promises_is_found_without_fault(tampered, repository):
    config, fed = tampered
    verdict = judge(config, fed, repository)
    assert verdict.problems == []
    assert verdict.outcomes == {"films": Counter({"screened": 2, "not-a-film": 1})}


@pytest.mark.slow
@pytest.mark.parametrize("break_it", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_every_broken_promise_is_found(tampered, repository, break_it):
    config, fed = tampered
    break_it(config)
    problems = judge(config, fed, repository).problems
    assert any(BREAKAGES[break_it] in problem for problem in problems), problems


@pytest.mark.slow
def test_a_wrong_outcome_and_a_screened_cut_film_are_found(tampered, repository):
    config, fed = tampered
    wrong = [
        Fed.of(each.name, each.kind, FILMS[each.name], cut=True, outcomes=("too-large",))
        for each in fed
    ]
    problems = judge(config, wrong, repository).problems
    assert "'whole.dcm' is a half-copied film: screened" in problems
    assert "'text.jpg': not-a-film, expected too-large" in problems


def test_names_in_the_log_are_found():
    fed = [Fed("mutant-1.jpg", "", ""), Fed("Jane_Doe.dcm", "", "")]
    assert names_in_log("file 1 failed: mutant-1.jpg Jane_Doe.dcm", fed, MARKER) == [
        "Jane_Doe.dcm",
        "mutant-",
    ]
    assert names_in_log("file 1 failed: not-a-film", fed, MARKER) == []


def broken_program(repository, folder):
    """A copy of the program that takes every film for whole.

    Its JPEG decoder fills up what is missing, as OpenCV 4 did; its PNG decoder is the real one.
    """
    ignore = shutil.ignore_patterns("*.safetensors", "__pycache__")
    for part in ("worker", "models", "templates", "migrations"):
        shutil.copytree(repository / part, folder / part, ignore=ignore)
    shutil.copy(repository / "config.toml", folder)
    sound = "def _is_complete(source: Source) -> bool:\n"
    replace(folder / "worker/imaging/sniff.py", sound, sound + "    return True\n")
    replace(folder / "worker/imaging/raster.py", "if not is_complete:", "if False:")
    decoded = "np.frombuffer(data, np.uint8)"
    filled = "np.frombuffer(data + bytes([255, 217]), np.uint8)"
    replace(folder / "worker/imaging/raster.py", decoded, filled)
    return folder


def replace(path, before, after):
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.slow
def test_a_program_that_takes_every_film_for_whole_is_found_out(tmp_path, tiny_model, repository):
    """Half JPEGs are screened, half PNGs fail by another name: both are broken promises."""
    program = broken_program(repository, tmp_path / "program")
    config = make_site(tmp_path / "site", quick_settings(tiny_model))
    films = [film for film in source_films(repository, None) if film.extension != ".dcm"][:6]
    cut = {f"{film.name}{film.extension}": film.data[: len(film.data) // 2] for film in films}
    fed = [Fed.of(name, "cut", data, cut=True) for name, data in cut.items()]
    with running(config, program) as daemon:
        for each in fed:
            daemon.feed(each, cut[each.name])
        daemon.wait(daemon.is_idle, PATIENCE_S)
        daemon.stop()
    became = {".jpg": "screened", ".png": "corrupt-file"}
    expected = [f"{name!r} is a half-copied film: {became[name[-4:]]}" for name in cut]
    assert judge(config, fed, repository).problems == expected
