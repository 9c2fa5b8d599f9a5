"""Whatever is thrown at it, the real daemon stays up and gives every file one named outcome.

The quick form of `make fuzz`: the same files, fewer mutants, a tiny network, the same judgement.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from itertools import takewhile
from pathlib import Path

import pytest

from tests.hostile.bombs import chest
from tests.hostile.campaign import MARKER, open_state, promises_broken, run, shared_data_beside
from tests.hostile.films import SYNTAXES, dicom_film, source_films
from tests.hostile.memory import LIBRARIES_MIB, WORKER_MIB, bound_mib, descendants
from tests.hostile.mutants import kinds, mutants
from tests.hostile.realdaemon import make_site, running
from tests.hostile.verdict import Fed, judge, named_outcomes, names_in_log, read_rows

MUTANTS = 300
PATIENCE_S = 200  # a bound for a loaded machine
SETTINGS = """[watch]
settle_s = 0
scan_interval_s = 0.2
incomplete_after_s = {incomplete_after_s}
[decode]
processes = 2
[model]
name = '{model}'
precision = 'float32'
"""


def settings(model: Path, incomplete_after_s: float = 1) -> str:
    return SETTINGS.format(model=model, incomplete_after_s=incomplete_after_s)


def test_the_same_seed_gives_the_same_mutants_from_any_number_on(repository):
    films = source_films(repository, None)
    every = list(mutants(films, 7, 600))
    assert list(mutants(films, 7, 600, start=400)) == every[400:]
    assert {mutant.kind for mutant in every} == set(kinds())
    assert len({mutant.name for mutant in every}) == 600


def test_a_campaign_cuts_every_small_film_at_every_512_bytes(repository):
    films = source_films(repository, None)
    every = mutants(films, 7, 20_000)
    cuts = list(takewhile(lambda mutant: mutant.kind == "cut every 512 bytes", every))
    assert len(cuts) == sum((len(film.data) - 1) // 512 for film in films if not film.full_size)
    assert all(mutant.cut for mutant in cuts)


def test_what_lacks_only_bytes_after_the_picture_is_not_cut(repository):
    for film in source_films(repository, None):
        assert film.is_cut(film.data[: film.end - 1])
        assert not film.is_cut(film.data[: film.end])
        assert not film.is_cut(film.data[: film.end - 2] + bytes([film.data[film.end - 2] ^ 1]))


def test_outcomes_are_those_of_the_document(repository):
    names = named_outcomes(repository)
    assert {"NORMAL", "REFUSED", "too-small", "quarantined", "decoder-timeout"} <= names
    assert "what to do" not in names


def test_the_memory_bound_follows_from_the_configuration(site):
    assert bound_mib(site) == WORKER_MIB + site.decode.process_count * (LIBRARIES_MIB + 3072)


def test_a_process_and_its_descendants_are_found():
    code = "import subprocess, sys; subprocess.run(['cat'], stdin=sys.stdin); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as parent:
        assert parent.stdin
        found = [parent.pid]
        while len(found) < 2 and parent.poll() is None:
            found = descendants(parent.pid)
        parent.communicate()
    assert len(found) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)  # under a minute on two free cores
def test_nothing_hostile_takes_the_daemon_down_or_ends_without_a_named_outcome(
    tmp_path, tiny_model, repository
):
    state = open_state(tmp_path / "fuzz", resume=False, settings=settings(tiny_model))
    shared_data = shared_data_beside(repository)
    broken, peaks = run(state, shared_data, seed=1, count=MUTANTS, tiring=False)
    verdict = judge(state.config, state.fed, repository)
    assert broken + promises_broken(state, peaks, verdict) == []
    assert sum(counts.total() for counts in verdict.outcomes.values()) == len(state.fed)
    assert sum(fed.cut for fed in state.fed) >= MUTANTS // 4
    left = {path.name for path in state.config.site.inbox.iterdir()}
    specials = ("link.dcm", "dangling.jpg", "loop", "pipe.dcm", "folder.dcm")
    assert left == {f"bomb-{name}" for name in specials}  # links, a pipe, a folder: no films


def test_the_journal_lets_a_campaign_go_on_where_it_was(tmp_path):
    state = open_state(tmp_path / "fuzz", resume=False)
    for name in ("a.jpg", "b.jpg"):
        (state.config.root / "staging" / name).write_bytes(b"film")
    state.remember(Fed.of("a.jpg", "kind", b"film", cut=True, outcomes=("not-a-film",)))
    again = open_state(tmp_path / "fuzz", resume=True)
    assert again.fed == state.fed
    assert [path.name for path in state.config.site.inbox.iterdir()] == ["a.jpg"]
    assert list((state.config.root / "staging").iterdir()) == []


# The test of the test


FILMS = {
    "whole.dcm": dicom_film(chest(), SYNTAXES["explicit"]),
    "text.jpg": b"nothing like a film",
    "other.dcm": dicom_film(chest(200), SYNTAXES["implicit"]),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tiny_model):
    """A small site whose daemon kept every promise, and what was fed in; copied by each test."""
    config = make_site(tmp_path_factory.mktemp("judged") / "site", settings(tiny_model))
    fed = [Fed.of(name, "films", data) for name, data in FILMS.items()]
    with running(config, Path(__file__).resolve().parents[2]) as daemon:
        for each in fed:
            daemon.feed(each, FILMS[each.name])
        daemon.wait(daemon.is_idle, PATIENCE_S)
        assert daemon.stop() == 0
    return config.root, fed


@pytest.fixture
def tampered(judged, tmp_path):
    """A copy of that site, to be broken."""
    from worker.config import load_config

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
    execute(
        config,
        "INSERT INTO files SELECT 99, run_id, model_id, source, file, path, size, mtime_ns, 'x', "
        "state, sha256, attempts, strikes, worker_deaths, screening_id, final_name, recorded_at, "
        "finished_at FROM files WHERE file = 'whole.dcm'",
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


def test_names_in_the_log_and_too_much_memory_are_found(site, repository):
    fed = [Fed("mutant-1.jpg", "", ""), Fed("Jane_Doe.dcm", "", "")]
    assert names_in_log("file 1 failed: mutant-1.jpg Jane_Doe.dcm", fed, MARKER) == [
        "Jane_Doe.dcm",
        "mutant-",
    ]
    assert names_in_log("file 1 failed: not-a-film", fed, MARKER) == []


def broken_program(repository, folder, *, warns_only):
    """A copy of the program that takes every film for whole.

    With `warns_only` its JPEG decoder fills up what is missing, as OpenCV 4 does with files.
    """
    ignore = shutil.ignore_patterns("*.safetensors", "__pycache__")
    for part in ("worker", "models", "templates", "migrations"):
        shutil.copytree(repository / part, folder / part, ignore=ignore)
    shutil.copy(repository / "config.toml", folder)
    sound = "def _is_complete(source: Source) -> bool:\n"
    replace(folder / "worker/imaging/sniff.py", sound, sound + "    return True\n")
    if warns_only:
        decoded = "np.frombuffer(data, np.uint8)"
        filled = "np.frombuffer(data + bytes([255, 217]), np.uint8)"
        replace(folder / "worker/imaging/raster.py", decoded, filled)
    return folder


def replace(path, before, after):
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("warns_only", "found"),
    [(False, "is a half-copied film: corrupt-file"), (True, "is a half-copied film: screened")],
)
def test_a_program_that_takes_every_film_for_whole_is_found_out(
    tmp_path, tiny_model, repository, warns_only, found
):
    program = broken_program(repository, tmp_path / "program", warns_only=warns_only)
    config = make_site(tmp_path / "site", settings(tiny_model))
    films = [film for film in source_films(repository, None) if film.extension == ".jpg"][:4]
    cut = {f"{film.name}.jpg": film.data[: len(film.data) // 2] for film in films}
    fed = [Fed.of(name, "cut", data, cut=True) for name, data in cut.items()]
    with running(config, program) as daemon:
        for each in fed:
            daemon.feed(each, cut[each.name])
        daemon.wait(daemon.is_idle, PATIENCE_S)
        daemon.stop()
    problems = judge(config, fed, repository).problems
    assert problems == [f"{each.name!r} {found}" for each in fed]


@pytest.mark.slow
def test_a_slow_copy_into_the_inbox_is_screened_once_and_whole(tmp_path, tiny_model, repository):
    """The copy stops for several looks of the real daemon in its middle, then goes on."""
    config = make_site(tmp_path / "site", settings(tiny_model, incomplete_after_s=600))
    data = FILMS["whole.dcm"]
    other = Fed.of("other.dcm", "films", FILMS["other.dcm"])
    slow = Fed.of("slow.dcm", "films", data, outcomes=("screened",))
    with running(config, repository) as daemon, (config.site.inbox / slow.name).open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        daemon.feed(other, FILMS["other.dcm"])
        daemon.wait((config.site.done / other.name).exists, PATIENCE_S)
        assert [row.file for row in read_rows(config)] == [other.name]
        file.write(data[len(data) // 2 :])
        file.flush()
        daemon.wait(daemon.is_idle, PATIENCE_S)
        assert daemon.stop() == 0
    assert judge(config, [slow, other], repository).problems == []
