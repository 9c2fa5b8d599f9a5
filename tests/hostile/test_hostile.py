"""Whatever is thrown at it, the real daemon stays up and gives every file one named outcome.

The quick form of `make fuzz`: the same files, fewer mutants, a tiny network, the same judgement.
"""

import subprocess
import sys
from itertools import takewhile

import pytest

from tests.hostile.bomb import chest
from tests.hostile.campaign import open_state, promises_broken, run, shared_data_beside
from tests.hostile.films import SYNTAXES, dicom_film, source_films
from tests.hostile.memory import LIBRARIES_MIB, WORKER_MIB, bound_mib, descendants
from tests.hostile.mutants import kinds, mutants
from tests.hostile.realdaemon import PATIENCE_S, make_site, quick_settings, running
from tests.hostile.verdict import Fed, judge, named_outcomes, read_rows

MUTANTS = 300


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
    state = open_state(tmp_path / "fuzz", resume=False, settings=quick_settings(tiny_model))
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


@pytest.mark.slow
def test_a_slow_copy_into_the_inbox_is_screened_once_and_whole(tmp_path, tiny_model, repository):
    """The copy stops for several looks of the real daemon in its middle, then goes on."""
    config = make_site(tmp_path / "site", quick_settings(tiny_model, incomplete_after_s=600))
    data, whole = (dicom_film(chest(px), SYNTAXES["explicit"]) for px in (256, 200))
    other = Fed.of("other.dcm", "films", whole)
    slow = Fed.of("slow.dcm", "films", data, outcomes=("screened",))
    with running(config, repository) as daemon, (config.site.inbox / slow.name).open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        daemon.feed(other, whole)
        daemon.wait((config.site.done / other.name).exists, PATIENCE_S)
        assert [row.file for row in read_rows(config)] == [other.name]
        file.write(data[len(data) // 2 :])
        file.flush()
        daemon.wait(daemon.is_idle, PATIENCE_S)
        assert daemon.stop() == 0
    assert judge(config, [slow, other], repository).problems == []
