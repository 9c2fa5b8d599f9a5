"""The bench measures what it says: its arithmetic, its films, its tables, each part once.

No test here asserts a time.
"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench.speed import database, ends, figures, growth, latency, manifest, plots, startup
from bench.speed import films as made
from bench.speed.__main__ import DOCUMENT, PARTS, QUICK, Bench, keep, kept
from bench.speed.facts import ROOT, cores, machine_facts
from bench.speed.films import Mix, dicom_mix, distinct, drop, grow, jpeg_mix, small_mix
from bench.speed.processes import CommandFailed, Sample, look, run, tree
from bench.speed.site import configure, ended, new_site, screen, settle_s
from bench.speed.tables import fill_in, table
from worker.imaging.decode import decode

STAGES = dict.fromkeys((*figures.UNAVOIDABLE, "hash", "page", "report files", "rows"), 1.0)


@pytest.fixture(autouse=True)
def samples(monkeypatch, tmp_path):
    """The films in tests/films, whatever lies beside the checkout."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "nothing"))


def mix_of(count):
    return Mix("films", jpeg_mix().sources[:count])


# Arithmetic


def test_the_limit_is_the_unavoidable_work_over_all_cores():
    assert figures.additive_limit(STAGES, cores=2) == len(figures.UNAVOIDABLE) / 2
    assert figures.additive_limit(STAGES | {"page": 99.0, "hash": 99.0}, 1) == 7


def test_the_limit_beside_a_gpu_is_reading_and_decoding():
    assert figures.gpu_limit(STAGES | {"decode": 3.0}, cores=4) == 1.0


def test_overlays_cost_their_stages_over_all_others():
    predictions = len(STAGES) - len(figures.OVERLAYS)
    assert figures.overlay_cost(STAGES) == pytest.approx(len(figures.OVERLAYS) / predictions)


def test_a_steady_rate_knows_neither_start_nor_end():
    even = [(100 + batch, 10 * batch) for batch in range(1, 21)]  # 10 films/s
    slow_ends = [(0.0, 5), *even, (999.0, 205)]
    assert figures.steady_rate(slow_ends) == pytest.approx(10)


def test_films_of_one_batch_that_end_together_are_one_step():
    lines = [
        (batch + film * 1e-5, 16 * batch + film + 1) for batch in range(9) for film in range(16)
    ]
    assert figures.steady_rate(lines) == pytest.approx(16, rel=1e-3)


@pytest.mark.parametrize("stamps", [[], [(1.0, 16)], [(1.0, 16), (2.0, 32)]])
def test_too_few_batches_have_no_steady_rate(stamps):
    assert figures.steady_rate(stamps) is None


def test_percentiles_are_values_that_were_measured():
    values = [float(n) for n in range(100, 0, -1)]
    assert [figures.percentile(values, share) for share in (0.5, 0.95, 1)] == [50, 95, 100]
    assert figures.percentile([3.0], 0.95) == 3.0


def test_counts_add_up_to_stamps():
    assert figures.cumulated([(1.0, 16), (2.0, 4)]) == [(1.0, 16), (2.0, 20)]


def test_sizes_are_compared_by_their_extremes():
    assert figures.off_level([100.0, 105.0, 103.0]) == pytest.approx(0.05)


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
        return {"stages": STAGES, "network": {"one thread, 1 at once": 1.0}}

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


# Tables and results


def measured(*runs):
    row = {"seconds": 2.0, "films_per_s": 8.0, "steady_films_per_s": 10.0, "busy": 0.9}
    each = {
        "mix": "films",
        "films": 16,
        "cores": 2,
        "stages": [STAGES, STAGES],
        "stages_together": [STAGES],
        "network": [{"one thread, 1 at once": 9.0}],
        "runs": {name: [row] for name in runs},
    }
    return {"jpeg": each, "dicom": each | {"mix": "dicom", "runs": {}}}


GROWN = {
    "films": 1000,
    "mix": "films",
    "seconds": 100.0,
    "ms_per_film": 90.0,
    "ms_per_film_with_start": 100.0,
    "busy": 0.9,
    "again_s": 3.0,
    "peak_pss": 1e9,
    "peak_rss": 1.2e9,
    "sum_of_peak_rss": 1.3e9,
    "most_processes": 3,
    "rate_over_time": [[1.0, 10.0], [2.0, 11.0]],
    "memory_over_time": [[1.0, 9e8], [2.0, 1e9]],
}
QUESTION = {
    "asked": "--run 1",
    "rows": 50,
    "database_s": 0.01,
    "command_s": 0.5,
    "plan": ["SCAN x"],
}
FOUND = {
    "stages": measured(),
    "backfill": measured("backfill", "predictions", "predictions and pictures"),
    "watch": measured("watch"),
    "plain": measured("backfill", "plain 224 px", "plain 1024 px"),
    "latency": {"films": 2, "waits_s": [0.5, 0.6], "p50_s": 0.5, "p95_s": 0.6, "most_s": 0.6},
    "memory": {"rows": [GROWN, GROWN | {"films": 2000, "peak_pss": 1.03e9}]},
    "scaling": {"rows": [GROWN, GROWN | {"films": 2000, "ms_per_film": 99.0}]},
    "rerun": {"films": 1000, "seconds": 4.0},
    "query": {
        "rows": 1000,
        "database_bytes": 10**6,
        "status_s": 0.5,
        "questions": {"one run": QUESTION},
        "documented_sql": [
            {"asked": "SELECT 1", "rows": 1, "first_rows_s": 0.1, "all_rows_s": 0.2, "plan": []}
        ],
        "worklist": {"seconds": 1.0, "peak_pss": 2e8, "pages": 3, "index_bytes": 10**5},
    },
    "startup": {
        "commands": {"screen --help": {"best_s": 0.1, "modules": 150, "heavy": []}},
        "bare_python_s": 0.01,
        "repeats": 10,
    },
}


@pytest.fixture
def results(tmp_path):
    facts = machine_facts(tmp_path)
    return {
        part: {"part": part, "quick": True, "facts": facts, "found": found}
        for part, found in FOUND.items()
    }


SAID = {
    "stages": ["| **decode** | 1.00 | 1.00 |", "divided by the cores | 3.50 | 3.50 |"],
    "backfill": ["| `screen backfill`: films, 16 films | 10.0 | 8.0 | 0.04 |", "83%", " 0% (0%"],
    "watch": ["`screen watch --once`, full inbox: films, 16 films | 10.0"],
    "plain": ["| plain script, overlays of 224 px: films, 16 films | 1.0 | 1.0 |"],
    "latency": ["| 2 films, one by one | 0.50 s | 0.60 s | 0.60 s |"],
    "memory": ["| 1,000 (films) | 1.00 | 1.20 | 1.30 | 3 |", "3.0% apart"],
    "scaling": ["| 2,000 (films) | 99.00 | 100.00 | 90% | 3.0 |", "10.0% apart"],
    "rerun": ["| 1,000 files | 4.0 s |"],
    "query": ["| `screen query --run 1` | 50 | 10.0 ms | 0.50 s | **scan x** |", "3 pages"],
    "startup": ["| `screen --help` | 0.10 s | 150 | – |"],
}


@pytest.mark.parametrize("part", PARTS)
def test_a_table_says_what_was_found_and_on_what_machine(part, results):
    text = table(part, results[part])
    assert [said for said in SAID[part] if said not in text] == []
    assert f"{cores()} cores" in text
    assert "Quick form" in text


def test_each_part_has_its_place_in_the_document(results):
    text = DOCUMENT.read_text(encoding="utf-8")
    filled = fill_in(text, results)
    assert all(said in filled for part in PARTS for said in SAID[part])
    assert fill_in(filled, results) == filled
    with pytest.raises(KeyError):
        fill_in("", results)


def test_plots_are_small_enough_to_be_committed(results, tmp_path):
    drawn = plots.draw(results, tmp_path)
    names = {path.stem.removeprefix("bench-") for path in drawn}
    assert names == {"stages", "latency", "memory", "scaling"}
    assert all(0 < path.stat().st_size < 100_000 for path in drawn)


def test_results_are_kept_by_part(tmp_path, results):
    for part in ("latency", "rerun"):
        keep(tmp_path / f"{part}.json", results[part])
    assert kept(tmp_path) == {part: results[part] for part in ("latency", "rerun")}


@pytest.mark.parametrize(
    ("resume", "since", "measured"), [(True, "9", 1), (False, "9", 2), (False, "1", 1)]
)
def test_a_long_run_is_kept_within_a_call_and_for_resuming(
    tmp_path, monkeypatch, resume, since, measured
):
    counts = []
    monkeypatch.setattr(growth, "measure", lambda *given: counts.append(given[2]) or GROWN)
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


def test_the_revision_is_the_checkout(tmp_path):
    facts = machine_facts(tmp_path)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] == cores()
    assert Path(ROOT / "pyproject.toml").is_file()
