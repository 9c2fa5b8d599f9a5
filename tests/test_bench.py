"""The bench measures what it says: its films, its processes, each part once.

No test here asserts a time.
"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest

from bench.speed import database, ends, figures, growth, latency, manifest, startup
from bench.speed import films as made
from bench.speed.__main__ import QUICK, Bench
from bench.speed.facts import cores, machine_facts
from bench.speed.films import Mix, dicom_mix, distinct, drop, grow, jpeg_mix, small_mix
from bench.speed.processes import CommandFailed, Sample, look, run, tree
from bench.speed.site import configure, ended, new_site, screen, settle_s
from worker.imaging.decode import decode

STAGES = dict.fromkeys((*figures.UNAVOIDABLE, "hash", "page", "report files", "rows"), 1.0)


@pytest.fixture(autouse=True)
def samples(monkeypatch, tmp_path):
    """The films in tests/films, whatever lies beside the checkout."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "nothing"))


def mix_of(count):
    return Mix("films", jpeg_mix().sources[:count])


# Films


def test_films_are_distinct_by_content_and_the_same_by_pixels(tmp_path):
    archive = grow(tmp_path / "archive", mix_of(2), 5)
    contents = [path.read_bytes() for path in sorted(archive.rglob("*.jpeg"))]
    assert len(set(contents)) == 5
    first, _, third, *_ = (decode(content).pixels for content in contents)
    assert np.array_equal(first, third)


def test_a_dicom_film_is_made_distinct_without_touching_its_content():
    film = dicom_mix().sources[0].read_bytes()
    copies = {distinct(film, number) for number in range(3)}
    assert len(copies) == 3
    assert {copy[128:] for copy in copies} == {film[128:]}
    before, after = (decode(each).pixels for each in (film, distinct(film, 2)))
    assert np.array_equal(before, after)


def test_a_grown_archive_keeps_its_films(tmp_path):
    archive = grow(tmp_path / "archive", mix_of(2), 3)
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*.jpeg")}
    grow(archive, mix_of(2), 7)
    after = {path: path.stat().st_mtime_ns for path in archive.rglob("*.jpeg")}
    assert len(after) == 7
    assert before.items() <= after.items()


def test_an_archive_that_does_not_fit_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(made, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(OSError, match="GB free"):
        grow(tmp_path / "archive", mix_of(2), 3)
    assert list((tmp_path / "archive").iterdir()) == []


def test_the_first_films_of_the_mix_are_of_both_classes():
    assert {path.parent.name for path in jpeg_mix().sources[:2]} == {"NORMAL", "PNEUMONIA"}


def test_the_small_films_are_the_smallest():
    left = set(jpeg_mix().sources) - set(small_mix().sources)
    largest = max(path.stat().st_size for path in small_mix().sources)
    assert all(path.stat().st_size >= largest for path in left)


def test_films_are_dropped_by_copy(tmp_path):
    archive = grow(tmp_path / "archive", mix_of(2), 3)
    (tmp_path / "inbox").mkdir()
    drop(archive, tmp_path / "inbox", 2)
    assert len(list((tmp_path / "inbox").iterdir())) == 2
    assert len(list(archive.rglob("*.jpeg"))) == 3


# Processes


def test_a_command_costs_the_processor_time_of_its_children_too():
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}]); print('hi')"
    )
    done = run([sys.executable, "-c", parent])
    assert done.cpu_s > 0.3
    assert [line for _, line in done.lines] == ["hi"]


def test_memory_is_that_of_the_whole_tree():
    hold = "import sys; held = bytearray(b'1' * (60 << 20)); print('there', flush=True); input()"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen(
        [sys.executable, "-c", parent, hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        found = look(process.pid)
        assert len(tree(process.pid)) == found.processes == 2
        process.communicate(b"\n")
    assert found.pss > 60 << 20
    assert found.peak_rss >= found.rss >= found.pss
    assert look(process.pid) == Sample(0.0, 0, 0, 0, 0, 0.0)


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(CommandFailed, match="ended with 5: it broke"):
        run([sys.executable, "-c", "import sys; print('it broke', file=sys.stderr); sys.exit(5)"])


def test_peaks_come_from_different_moments():
    samples = [Sample(0.5, 3, 5, 6, 2, 0.1), Sample(1.0, 4, 4, 7, 3, 0.2)]
    assert growth.memory(samples) == {
        "peak_pss": 4,
        "peak_rss": 5,
        "sum_of_peak_rss": 7,
        "most_processes": 3,
    }


def test_a_thinned_curve_keeps_its_peaks():
    points = [[float(n), float(n == 777)] for n in range(1000)]
    thin = growth.thinned(points)
    assert len(thin) <= 300
    assert [777.0, 1.0] in thin
    assert growth.thinned(points[:5]) == points[:5]


# Questions


def test_a_question_is_asked_as_the_command_takes_it():
    moment = datetime(2026, 5, 3, 12, tzinfo=UTC)
    assert database.words({"min_probability": 0.9, "since": moment}) == [
        *("--min-probability", "0.9", "--since", "2026-05-03T12:00:00+00:00")
    ]


def test_every_filter_of_the_command_is_asked_for():
    asked = {name for wanted in database.questions(datetime.now(UTC)).values() for name in wanted}
    every = set(database.Filter.__dataclass_fields__)
    assert asked == every - {"sha256", "limit"}  # no option, and always


def test_the_statements_of_the_document_are_asked_at_the_newest_moment():
    statements = database.documented(datetime(2026, 5, 3, 12))
    assert len(statements) >= 3
    assert all(statement.startswith("SELECT") for statement in statements)
    assert not [statement for statement in statements if "now" in statement]


# Rounds


def test_stages_are_measured_before_and_after_every_round(tmp_path, monkeypatch):
    said = []

    def stages_of(kind, repeats, scratch, copies=1):
        said.append("together" if copies > 1 else "stages")
        return {"stages": STAGES, "network": {"one thread, 1 at once": 1.0}, "bare": {}}

    def whole(name):
        def once(scratch, archive, films):
            said.append(name)
            row = {"seconds": 2.0, "films_per_s": films / 2, "busy": 0.9}
            return row | {"steady_films_per_s": None if name == "watch" else 200.0}

        return once

    monkeypatch.setattr(ends, "stages_of", stages_of)
    monkeypatch.setattr(ends, "RUNS", {name: whole(name) for name in ends.RUNS})
    monkeypatch.setattr(ends, "cores", lambda: 2)
    found = ends.measure(tmp_path, "jpeg", mix_of(2), ends.Plan(4, 2, 1), ["backfill", "watch"])
    runs = ["backfill", "predictions", "predictions and pictures", "watch"]
    once = [*runs, "together", "stages"]
    assert said == ["stages", *once, *once]
    summary = ends.summary(found)
    limit_ms = len(figures.UNAVOIDABLE) / 2
    assert summary["runs"]["backfill"]["share"]["median"] == pytest.approx(limit_ms * 200 / 1000)
    assert summary["runs"]["watch"]["steady_films_per_s"]["median"] == 2.0  # all there is
    assert list(ends.of_part("watch", found)["runs"]) == ["watch"]
    assert list(ends.of_part("stages", found)["runs"]) == runs  # for the plot


# Long runs


@pytest.mark.parametrize(
    ("resume", "since", "measured"), [(True, "9", 1), (False, "9", 2), (False, "1", 1)]
)
def test_a_long_run_is_kept_within_a_call_and_for_resuming(
    tmp_path, monkeypatch, resume, since, measured
):
    counts, grown = [], {"films": 16, "peak_pss": 1, "ms_per_film": 1.0}
    monkeypatch.setattr(growth, "measure", lambda *given: counts.append(given[2]) or grown)
    for _ in range(2):
        bench = Bench(QUICK, True, tmp_path, resume, since)
        bench._grown(tmp_path, jpeg_mix(), [16])
    assert counts == [16] * measured


def test_the_bench_tells_the_parts_it_has():
    done = run([sys.executable, "-m", "bench.speed", "--help"])
    assert "report" in "\n".join(line for _, line in done.lines)


# Each part once, in its smallest form


@pytest.mark.slow
def test_each_stage_is_measured(tmp_path):
    found = ends.stages_of("jpeg", 1, tmp_path)
    assert found["stages"].keys() == STAGES.keys()
    assert all(ms >= 0 for ms in found["stages"].values())
    assert len(found["bare"]) == 2
    assert found["stages"]["network"] == min(
        ms for name, ms in found["network"].items() if name.startswith("one thread")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ends.RUNS)
def test_a_whole_run_answers_every_film(tmp_path, name):
    archive = grow(tmp_path / "archive", mix_of(2), 5)
    row = ends.RUNS[name](tmp_path, archive, 5)
    assert row["films_per_s"] == pytest.approx(5 / row["seconds"])


@pytest.mark.slow
def test_a_run_that_lost_a_film_is_no_measurement(tmp_path):
    site, archive = new_site(tmp_path / "site"), grow(tmp_path / "archive", mix_of(2), 2)
    screen(site, "backfill", archive)
    began = time.time()
    assert [count for _, count in ended(site, 2)] == [2]
    assert abs(ended(site, 2)[0][0] - began) < 3600  # Unix time, whatever the time zone
    with pytest.raises(CommandFailed, match="2 of 3 films"):
        ended(site, 3)
    (archive / "broken.jpeg").write_bytes(b"\xff\xd8\xff")
    screen(site, "backfill", archive, codes=(3,))
    with pytest.raises(CommandFailed):
        ended(site, 2)


def test_a_site_is_configured_by_its_file(tmp_path):
    site = new_site(tmp_path / "site")
    configure(site, "picture_px", 256)
    assert "picture_px = 256" in (site / "config.toml").read_text(encoding="utf-8")
    assert settle_s(site) == 2.0
    with pytest.raises(KeyError):
        configure(site, "no_such_key", 1)


@pytest.mark.slow
def test_a_lone_film_is_waited_for(tmp_path):
    found = latency.measure(tmp_path, mix_of(2), 1)
    assert len(found["waits_s"]) == 1
    assert found["p95_s"] == found["waits_s"][0]


@pytest.mark.slow
def test_growth_is_watched(tmp_path):
    rows = [growth.measure(tmp_path, mix_of(2), count) for count in (17, 20)]
    assert [row["films"] for row in rows] == [17, 20]
    assert all(row["peak_rss"] >= row["peak_pss"] > 100 << 20 for row in rows)
    assert all(later[0] > earlier[0] for earlier, later in pairwise(rows[0]["memory_over_time"]))


@pytest.mark.slow
def test_a_finished_archive_is_passed_over(tmp_path):
    found = manifest.measure(tmp_path, mix_of(2), 20)
    assert "finished before 20" in found["said"]


@pytest.mark.slow
def test_every_question_is_asked_of_a_filled_database(tmp_path):
    found = database.measure(tmp_path, rows=200, repeats=1)
    assert found["questions"].keys() == database.questions(datetime.now(UTC)).keys()
    assert found["questions"]["newest"]["rows"] == 50
    assert all(row["plan"] for row in found["questions"].values())
    assert len(found["documented_sql"]) == len(database.documented(datetime.now(UTC)))
    assert found["worklist"]["pages"] >= 1


@pytest.mark.slow
def test_help_imports_nothing_heavy(tmp_path):
    found = startup.measure(tmp_path, 1)["commands"]
    assert found["screen --help"]["heavy"] == found["screen query --help"]["heavy"] == []
    assert found["screen --help"]["modules"] > 50


def test_facts_of_the_machine_are_plain_values(tmp_path):
    facts = machine_facts(tmp_path)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] == cores()
    assert facts["packages"].keys() >= {"torch", "numpy"}
