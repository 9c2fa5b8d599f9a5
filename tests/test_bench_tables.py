"""What the bench makes of its measurements: limits, rates, tables, plots."""

import pytest

from bench import export_tables
from bench.export import DOCUMENT as EXPORT_DOCUMENT
from bench.export import joined, spread
from bench.speed import figures, plots
from bench.speed.__main__ import DOCUMENT, PARTS, keep, kept
from bench.speed.ends import OPENVINO
from bench.speed.facts import cores, machine_facts
from bench.speed.tables import fill_in, placed, table
from models.names import shipped_names

STAGES = dict.fromkeys((*figures.UNAVOIDABLE, "hash", "page", "report files", "rows"), 1.0)


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


# Tables and results


def measured(*runs):
    row = {"seconds": 2.0, "films_per_s": 8.0, "steady_films_per_s": 10.0, "busy": 0.9}
    each = {
        "mix": "films",
        "sources": 2,
        "films": 16,
        "cores": 2,
        "stages": [STAGES, STAGES],
        "stages_together": [STAGES],
        "network": [{"one thread, 1 at once": 9.0}],
        "bare": [{"OpenCV alone, full size": 5.0}],
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
    "plain": measured("backfill", OPENVINO, "plain 224 px", "plain 1024 px"),
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
    "view": {
        "results": 10_000,
        "repeats": 10,
        "bytes": 450_000,
        "chromium": "140.0",
        "ways": {
            way: {key: {"least": 100, "median": ms, "most": 900} for key in ("paint_ms", "load_ms")}
            for way, ms in (("file", 300), ("served", 400))
        },
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
    "stages": [
        "| **decode** | 1.00 | 1.00 |",
        "divided by the cores | 3.50 | 3.50 |",
        "full size | 5.00 |",
    ],
    "backfill": ["| `screen backfill`: films, 16 films | 10.0 | 8.0 | 0.04 |", "83%", " 0% (0%"],
    "watch": ["`screen watch --once`, full inbox: films, 16 films | 10.0"],
    "plain": [
        "| `screen backfill`, against plain script, overlays of 224 px: films, 16 films | 1.0 |",
        "| `screen backfill` with OpenVINO, against plain script, overlays of 1024 px: films",
        "| `screen backfill` with OpenVINO: films, 16 films | 10.0 | 8.0 | – | – |",
    ],
    "latency": ["| 2 films, one by one | 0.50 s | 0.60 s | 0.60 s |"],
    "memory": ["| 1,000 (films) | 1.00 | 1.20 | 1.30 | 3 |", "3.0% apart"],
    "scaling": ["| 2,000 (films) | 99.00 | 100.00 | 90% | 3.0 |", "10.0% apart"],
    "rerun": ["| 1,000 files | 4.0 s |"],
    "query": ["| `screen query --run 1` | 50 | 10.0 ms | 0.50 s | **scan x** |", "3 pages"],
    "startup": ["| `screen --help` | 0.10 s | 150 | – |"],
    "view": ["| from `screen serve` | 400 (100–900) ms |", "0.45 MB"],
}


def test_the_limit_of_a_gpu_is_said_where_there_is_one(results):
    assert "GPU" not in table("stages", results["stages"])
    results["stages"]["found"]["jpeg"]["network"] = [{"CUDA, 64 at once": 0.1}]
    assert "limit beside a GPU: read and decode on all cores | 1.00 | – |" in table(
        "stages", results["stages"]
    )


@pytest.mark.parametrize("part", PARTS)
def test_a_table_says_what_was_found_and_on_what_machine(part, results):
    text = table(part, results[part])
    assert [said for said in SAID[part] if said not in text] == []
    assert f"{cores()} cores" in text
    assert "Quick form" in text


@pytest.mark.parametrize(("load", "said"), [(0.1, False), (3.0, True)])
def test_figures_of_a_busy_machine_are_marked(results, load, said):
    facts = {"cores": 2, "load_before": [load, 0.0, 0.0]}
    results["rerun"]["facts"] |= facts
    assert ("busy with other work" in table("rerun", results["rerun"])) is said


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


# Exports

EXPORT = {
    "model": "small",
    "format": "onnx",
    "precision": "int8",
    "source_bytes": 9_700_000,
    "files_bytes": 2_600_000,
    "made_with": {"torch": "2.13.0"},
    "torch_films_per_s": 100.0,
    "times_torch": 1.5,
    "parity": {
        "probability": 0.021,
        "heat_map": 0.034,
        "guard_score": 0.005,
        "forced_choices_changed": 2,
    },
    "decisions_changed": 3,
    "auc": 0.9987,
    "torch_auc": 0.9991,
    "outside_passed": 1,
    "torch_outside_passed": 0,
}


@pytest.fixture
def exports(tmp_path):
    refused = {"model": "small", "format": "litert", "precision": "int8", "error": "not installed"}
    return {
        "facts": machine_facts(tmp_path),
        "revision": "0123456789ab",
        "films": 1000,
        "of": "train224",
        "calibration": 128,
        "outside": 200,
        "outside_of": "adult_nih",
        "rows": [EXPORT, refused],
    }


def test_a_table_of_exports_says_what_was_lost_and_won(exports):
    text = export_tables.report(exports)
    for said in (
        "| torch | 9.7 | 1 (100 films/s) | – | – | – | – | – | 0.9991 | 0 of 200 |",
        "| onnx, int8 | 2.6 | 1.50 | 0.021 | 3.4% | 0.005 | 2 | 3 | 0.9987 | 1 of 200 |",
        "| litert, int8 | not installed |",
        "1,000 films of `train224`, which the models were trained on",
        "Made with torch 2.13.0.",
    ):
        assert said in text
    document = EXPORT_DOCUMENT.read_text(encoding="utf-8")
    assert text in placed(document, "export", text)


def test_exports_measured_later_join_those_on_the_same_films(exports):
    model = shipped_names()[0]
    first, again, other = ({**EXPORT, "model": model, "auc": auc} for auc in (0.1, 0.2, 0.3))
    other["format"] = "openvino"
    now = {**exports, "rows": [again]}
    assert joined({**exports, "rows": [other, first]}, now)["rows"] == [again, other]
    assert joined({**exports, "films": 9, "rows": [other]}, now) == now
    assert joined({**exports, "revision": "ba9876543210", "rows": [other]}, now) == now
    assert joined({"rows": []}, now) == now


@pytest.mark.parametrize(("count", "drawn"), [(1, [0]), (3, [0, 3, 6]), (99, list(range(10)))])
def test_a_sample_is_spread_evenly(count, drawn):
    assert spread(range(10), count) == drawn
