"""The program is held to INTERFACE.md: what people's scripts depend on, by running it.

Names, fields, exit codes and places here change only with a major version.
"""

import csv
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from worker.cli.main import cli

RECORD = [
    "file",
    "sha256",
    "decision",
    "probability",
    "threshold",
    "guard_score",
    "guard_threshold",
    "reason",
    "message",
    "model",
    "weights_sha256",
]
REVIEW = ["verdict", "finding", "review_note", "reviewer", "reviewed_at"]
QUERY = [*RECORD, "status", "source", "run", "page", "finished_at", *REVIEW]
DECISIONS = {"PNEUMONIA", "NORMAL", "INDETERMINATE", "REFUSED"}
EVALUATION = {
    *("n", "auc", "accuracy", "sensitivity", "specificity", "precision", "recall", "f1"),
    *("brier", "ece", "threshold", "confusion", "confidence_intervals", "answered"),
    *("refused", "indeterminate", "unreadable", "model", "weights_sha256"),
    *("curves", "most_wrong"),
}


def commands(group=cli, before=()):
    """Every command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        words = (*before, name)
        if isinstance(command, click.Group):
            yield from commands(command, words)
        else:
            yield " ".join(words), command


COMMANDS = dict(commands())


def configure(folder, model):
    """A configuration that runs the tiny model, quickly."""
    (folder / "config.toml").write_text(
        "[watch]\nsettle_s = 0.2\n[decode]\nprocesses = 2\n"
        f"[model]\nname = '{model}'\nprecision = 'float32'\n"
    )


def blurred(seed, size=160):
    """A picture that decodes and is no negative."""
    noise = np.random.default_rng(seed).integers(0, 255, (size, size), np.uint8)
    return cv2.imencode(".jpg", cv2.GaussianBlur(noise, (0, 0), 9))[1].tobytes()


@pytest.fixture(scope="module")
def films(tmp_path_factory, sample_films):
    """A folder with films, a copy, a cut film, a text, a lateral name, links and sub-folders."""
    folder = tmp_path_factory.mktemp("given") / "films"
    (folder / "b").mkdir(parents=True)
    first, second, *_ = sorted((sample_films / "PNEUMONIA").iterdir())
    shutil.copy(first, folder / "a.jpeg")
    shutil.copy(second, folder / "b" / "film.jpeg")
    shutil.copy(second, folder / "b.jpeg")
    (folder / "cut.jpg").write_bytes(blurred(1)[:-400])
    (folder / "notes.txt").write_text("no film")
    (folder / "small.png").write_bytes(cv2.imencode(".png", np.eye(40) * 255)[1].tobytes())
    (folder / "link.jpeg").symlink_to(folder / "a.jpeg")
    (folder / "loop").symlink_to(folder)
    return folder


ORDER = ["a.jpeg", "b/film.jpeg", "b.jpeg", "cut.jpg", "notes.txt", "small.png"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_model):
    """A folder with a configuration and no site, as a researcher has it."""
    folder = tmp_path_factory.mktemp("desk")
    configure(folder, tiny_model)
    return folder


@pytest.fixture(scope="module")
def clinic(tmp_path_factory, screen, tiny_model, films):
    """A site that has worked off the films in its inbox."""
    folder = tmp_path_factory.mktemp("sites") / "clinic"
    assert screen("init", folder, cwd=folder.parent).returncode == 0
    configure(folder, tiny_model)
    for name in ORDER:
        (folder / "inbox" / name).parent.mkdir(exist_ok=True)
        shutil.copy(films / name, folder / "inbox" / name)
    text = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(text + "[batch]\nsize = 4\n")
    impatient = text.replace("settle_s", "incomplete_after_s = 0.1\nsettle_s")
    (folder / "impatient.toml").write_text(impatient)
    ended = screen("watch", "--once", "--config", folder / "impatient.toml", cwd=folder)
    assert ended.returncode == 3, ended.stderr
    return folder


@pytest.fixture(scope="module")
def answered(clinic, screen):
    """What `query --json` says of the clinic: file → record."""
    found = json.loads(screen("query", "--json", cwd=clinic).stdout)
    return {record["file"]: record for record in found}


@pytest.fixture(scope="module")
def classified(desk, screen, films):
    """`classify --json` of the folder: the process, and its records."""
    ended = screen("classify", films, "--json", cwd=desk)
    return ended, [json.loads(line) for line in ended.stdout.splitlines()]


# Set-up and site


def test_version_is_printed(screen, tmp_path):
    ended = screen("--version", cwd=tmp_path)
    assert re.fullmatch(r"screen, version \d+\.\d+\.\d+\n", ended.stdout)


@pytest.fixture(scope="module")
def new_site(tmp_path_factory, screen):
    folder = tmp_path_factory.mktemp("new") / "site"
    ended = screen("init", folder, cwd=folder.parent)
    assert ended.returncode == 0
    return folder


def test_init_makes_the_site(new_site):
    found = {path.name for path in new_site.iterdir()}
    expected = {"config.toml", "inbox", "work", "done", "failed", "reports", "screen.db"}
    assert found - {"screen.db-wal", "screen.db-shm"} == expected


def test_folders_of_a_site_are_open_to_the_group_that_stays_and_never_to_the_world(new_site):
    for name in ("inbox", "work", "done", "failed", "reports"):
        assert (new_site / name).stat().st_mode & 0o7777 == 0o2750, name


def test_the_database_is_for_its_owner_alone(new_site):
    assert (new_site / "screen.db").stat().st_mode & 0o777 == 0o600


def test_no_file_of_a_site_is_open_to_the_world(clinic):
    written = [*clinic.glob("reports/**/*"), *clinic.glob("failed/*.json"), *clinic.glob("*.db*")]
    assert len(written) > 5
    open_to_all = [path.name for path in written if path.stat().st_mode & 0o007]
    assert open_to_all == []


def test_the_configuration_that_init_writes_is_not_open_to_the_world(new_site):
    assert (new_site / "config.toml").stat().st_mode & 0o007 == 0


def test_init_leaves_a_folder_with_content_alone(screen, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    ended = screen("init", "full", cwd=tmp_path)
    assert ended.returncode == 2
    assert "not empty" in ended.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


# Where a film ends


def test_decoded_films_and_duplicates_end_in_done_the_others_in_failed(clinic):
    done = {path.name for path in (clinic / "done").iterdir()}
    assert {"a.jpeg", "b.jpeg", "film.jpeg", "small.png"} == done
    failed = {path.name for path in (clinic / "failed").iterdir()}
    assert failed == {"cut.jpg", "cut.jpg.json", "notes.txt", "notes.txt.json"}


def test_a_sidecar_says_why(clinic):
    sidecar = json.loads((clinic / "failed" / "cut.jpg.json").read_text())
    assert sidecar["reason"] == "truncated-file"
    assert {"file", "sha256", "reason", "message", "failed_at", "attempts", "strikes", "run"} == (
        sidecar.keys()
    )


def test_tables_hold_screenings_and_failures(clinic):
    with sqlite3.connect(clinic / "screen.db") as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("screenings", "failures", "latest_results")
        ]
    database.close()
    assert counts == [3, 2, 3]


def test_a_duplicate_points_at_the_first_report(answered):
    first, twin = answered["b/film.jpeg"], answered["b.jpeg"]
    assert {first["status"], twin["status"]} == {"screened", "duplicate"}
    assert first["page"] == twin["page"]
    assert first["probability"] == twin["probability"]


def test_every_decoded_film_has_a_page_and_the_worklist_names_every_file(clinic, answered):
    index = (clinic / "reports" / "index.html").read_text()
    for file, record in answered.items():
        assert Path(file).name in index
        if record["status"] != "failed":
            assert (clinic / "reports" / record["page"]).is_file()


def test_the_same_film_in_another_run_is_a_duplicate(clinic, screen, films, tmp_path):
    copy = tmp_path / "clinic"
    shutil.copytree(clinic, copy)
    shutil.copy(films / "a.jpeg", copy / "inbox" / "again.jpeg")
    assert screen("watch", "--once", cwd=copy).returncode == 0
    (newest, *_) = json.loads(screen("query", "--limit", 1, "--json", cwd=copy).stdout)
    assert (newest["file"], newest["status"]) == ("again.jpeg", "duplicate")
    assert (copy / "done" / "again.jpeg").is_file()


# Records


def test_a_record_has_these_fields_in_this_order(classified):
    _, records = classified
    assert [list(record) for record in records] == [RECORD] * len(ORDER)


def test_folders_are_walked_in_order_and_links_not_followed(classified, films):
    _, records = classified
    assert [record["file"] for record in records] == [str(films / name) for name in ORDER]


def test_decisions_are_the_four(classified, answered):
    _, records = classified
    for record in [*records, *answered.values()]:
        assert record["decision"] in DECISIONS


def test_only_what_cannot_be_decoded_has_no_probability(classified):
    _, records = classified
    without = [Path(r["file"]).name for r in records if r["probability"] is None]
    assert without == ["cut.jpg", "notes.txt"]
    assert all(0 <= r["probability"] <= 1 for r in records if r["probability"] is not None)


def test_what_is_no_film_is_refused_as_such(classified):
    _, records = classified
    (record,) = [r for r in records if r["file"].endswith("notes.txt")]
    assert (record["decision"], record["reason"]) == ("REFUSED", "not-a-film")


def test_a_refused_film_keeps_its_probability_and_says_why(classified):
    _, records = classified
    (record,) = [r for r in records if r["file"].endswith("small.png")]
    assert (record["decision"], record["reason"]) == ("REFUSED", "too-small")
    assert record["probability"] is not None


def test_watch_and_classify_answer_alike(classified, answered, films):
    _, records = classified
    for record in records:
        same = answered[str(Path(record["file"]).relative_to(films))]
        for field in ("sha256", "decision", "reason", "model", "weights_sha256"):
            assert record[field] == same[field], field
        if record["probability"] is not None:
            assert record["probability"] == pytest.approx(same["probability"], abs=1e-4)


def test_classify_changes_nothing_and_needs_no_site(desk, screen, films, tree):
    before = tree(films)
    screen("classify", films / "a.jpeg", cwd=desk)
    assert tree(films) == before
    assert [path.name for path in desk.iterdir()] == ["config.toml"]


def test_a_link_that_is_named_itself_is_followed(desk, screen, films):
    ended = screen("classify", films / "link.jpeg", "--json", cwd=desk)
    record = json.loads(ended.stdout)
    assert record["file"] == str(films / "link.jpeg")
    assert record["reason"] != "unreadable-file"
    assert ended.returncode == 0


# Query


def test_query_gives_every_file_that_came_to_an_end(answered):
    assert set(answered) == set(ORDER)
    assert all(list(record) == QUERY for record in answered.values())
    statuses = sorted(record["status"] for record in answered.values())
    assert statuses == ["duplicate", "failed", "failed", "screened", "screened", "screened"]


def test_the_csv_has_the_same_rows_and_columns(clinic, screen, answered):
    rows = list(csv.DictReader(io.StringIO(screen("query", "--csv", cwd=clinic).stdout)))
    assert list(rows[0]) == QUERY
    for row in rows:
        expected = answered[row["file"]]
        assert row["decision"] == expected["decision"]
        assert row["probability"] == ("" if (p := expected["probability"]) is None else str(p))


def test_the_table_is_short_but_json_and_csv_are_not(screen, tmp_path, clinic):
    copy = tmp_path / "clinic"
    shutil.copytree(clinic, copy)
    with sqlite3.connect(copy / "screen.db") as database:
        columns = "run_id, model_id, source, size, mtime_ns, claim, state, sha256, decision, "
        columns += "probability, reason, attempts, strikes, worker_deaths, screening_id, "
        columns += "final_name, recorded_at, finished_at"
        database.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) "
            f"INSERT INTO files (file, path, {columns}) "
            f"SELECT 'more-' || i, CAST('more-' || i AS BLOB), {columns} FROM n "
            f"JOIN (SELECT * FROM files WHERE state = 'duplicate')"
        )
    database.close()
    assert len(json.loads(screen("query", "--json", cwd=copy).stdout)) == 1506
    rows = csv.reader(io.StringIO(screen("query", "--csv", cwd=copy).stdout))
    assert len(list(rows)) == 1507
    assert len(screen("query", cwd=copy).stdout.splitlines()) == 51


def test_filters_of_the_command_restrict(clinic, screen):
    ended = screen("query", "--status", "failed", "--json", cwd=clinic)
    assert {record["file"] for record in json.loads(ended.stdout)} == {"cut.jpg", "notes.txt"}
    ended = screen("query", "--until", "2020-01-01", "--json", cwd=clinic)
    assert json.loads(ended.stdout) == []


# Backfill


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory, screen, tiny_model, films):
    """A site after a backfill of the films: its folder, and the process that ended."""
    folder = tmp_path_factory.mktemp("research") / "site"
    screen("init", folder, cwd=folder.parent)
    configure(folder, tiny_model)
    return folder, screen("backfill", films, cwd=folder)


def test_a_backfill_exits_with_3_because_some_files_could_not_be_read(backfilled):
    _, ended = backfilled
    assert ended.returncode == 3


def test_a_backfill_gives_every_regular_file_exactly_one_record(backfilled, screen, films):
    folder, _ = backfilled
    records = json.loads(screen("query", "--json", cwd=folder).stdout)
    assert sorted(r["file"] for r in records) == sorted(str(films / name) for name in ORDER)
    reasons = {Path(r["file"]).name: r["reason"] for r in records if r["status"] == "failed"}
    assert reasons == {"cut.jpg": "truncated-file", "notes.txt": "not-a-film"}


def test_the_same_backfill_again_does_nothing_but_say_what_still_fails(
    backfilled, screen, films, tree
):
    folder, _ = backfilled
    before = tree(films)
    ended = screen("backfill", films, cwd=folder)
    assert ended.returncode == 3
    assert "finished before 6" in ended.stdout
    assert tree(films) == before


def test_an_archive_named_twice_is_screened_once(screen, tiny_model, films, tmp_path):
    screen("init", tmp_path / "site", cwd=tmp_path)
    configure(tmp_path / "site", tiny_model)
    ended = screen("backfill", films, films, films / ".", "--dry-run", cwd=tmp_path / "site")
    assert ended.stdout.startswith("6 files")


# Evaluate


@pytest.fixture(scope="module")
def evaluated(desk, screen, sample_films, tmp_path_factory):
    """`evaluate` on the 16 sample films: its process, and what it wrote."""
    out = tmp_path_factory.mktemp("evaluated")
    files = ["--json", out / "r.json", "--predictions", out / "p.csv", "--html", out / "r.html"]
    return screen("evaluate", sample_films, *files, cwd=desk), out


def test_evaluate_writes_these_keys(evaluated):
    ended, out = evaluated
    assert ended.returncode == 0, ended.stderr
    found = json.loads((out / "r.json").read_text())
    assert found.keys() == EVALUATION
    assert found["n"] == 16
    assert found["confusion"].keys() == {"tn", "fp", "fn", "tp"}
    assert sum(found["confusion"].values()) == 16
    for name in ("precision", "recall", "f1"):
        assert found[name].keys() == {"NORMAL", "PNEUMONIA", "macro", "weighted"}
    assert all(low <= high for low, high in found["confidence_intervals"].values())
    assert "coverage" in found["answered"]
    curves = {"roc", "precision_recall", "risk_coverage", "reliability"}
    assert found["curves"].keys() == curves
    wrong = found["confusion"]["fp"] + found["confusion"]["fn"]
    assert len(found["most_wrong"]) == min(12, wrong)


def test_predictions_have_the_record_and_the_label(evaluated):
    _, out = evaluated
    rows = list(csv.DictReader(io.StringIO((out / "p.csv").read_text())))
    assert list(rows[0])[: len(RECORD)] == RECORD
    assert "label" in rows[0]
    assert len(rows) == 16


def test_evaluate_writes_one_page(evaluated):
    _, out = evaluated
    assert (out / "r.html").read_text().lower().startswith("<!doctype html>")


def test_evaluate_takes_labels_from_a_table(desk, screen, sample_films, tmp_path):
    normal = next((sample_films / "NORMAL").iterdir()).relative_to(sample_films)
    pneumonia = next((sample_films / "PNEUMONIA").iterdir()).relative_to(sample_films)
    table = f"file,label,group\n{normal},NORMAL,x\n{pneumonia},PNEUMONIA,y\n"
    (tmp_path / "truth.csv").write_text(table)
    out = tmp_path / "r.json"
    ended = screen(
        "evaluate", sample_films, "--labels", tmp_path / "truth.csv", "--json", out, cwd=desk
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(out.read_text())["n"] == 2


# Exit codes


def test_exit_0_even_when_a_film_is_refused(desk, screen, films):
    ended = screen("classify", films / "small.png", films / "notes.txt", cwd=desk)
    assert ended.returncode == 0


def test_exit_3_when_a_film_could_not_be_read(classified):
    ended, _ = classified
    assert ended.returncode == 3
    assert "1 files could not be read" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("classify",),
        ("classify", "no-such-file.dcm"),
        ("--config", "none.toml", "query"),
        ("query",),
        ("watch", "--once"),
        ("query", "--decision", "MAYBE"),
        ("query", "--since", "yesterday"),
        ("evaluate", "."),
    ],
    ids=" ".join,
)
def test_exit_2_for_usage_and_configuration(screen, desk, arguments):
    ended = screen(*arguments, cwd=desk)
    assert ended.returncode == 2
    assert ended.stderr
    assert "Traceback" not in ended.stderr


def test_exit_1_for_what_could_not_be_finished(screen, desk, films, tiny_model, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model, damaged)
    with (damaged / "weights.safetensors").open("ab") as weights:
        weights.write(b"!")
    ended = screen("classify", films / "a.jpeg", "--model", damaged, cwd=desk)
    assert ended.returncode == 1
    assert "damaged or was exchanged" in ended.stderr


def test_exit_2_for_a_model_that_is_not_there(screen, desk, films):
    ended = screen("classify", films / "a.jpeg", "--model", "nonsense", cwd=desk)
    assert ended.returncode == 2
    assert "known are default" in ended.stderr


def test_evaluate_exits_with_1_when_no_film_could_be_read(screen, desk, tmp_path):
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "cut.jpg").write_bytes(blurred(2)[:-400])
    assert screen("evaluate", tmp_path, cwd=desk).returncode == 1


def test_a_damaged_database_exits_with_1_and_says_so(clinic, screen, tmp_path):
    copy = tmp_path / "clinic"
    shutil.copytree(clinic, copy)
    with (copy / "screen.db").open("r+b") as database:
        database.seek(4096)
        database.write(os.urandom(20_000))
    ended = screen("db", "check", cwd=copy)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


def test_a_reader_that_goes_away_ends_the_program_quietly(clinic, repository):
    """`screen query --json | head -0`."""
    asked = subprocess.Popen(
        [sys.executable, "-m", "worker", "query", "--json"],
        cwd=clinic,
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    asked.stdout.close()
    said = asked.stderr.read()
    assert (asked.wait(60), said) == (1, "")


# Commands


def test_these_are_the_commands():
    assert set(COMMANDS) == {
        *(
            "init",
            "watch",
            "backfill",
            "classify",
            "evaluate",
            "export",
            "serve",
            "receive",
            "send",
            "query",
            "status",
            "report",
            "answer",
        ),
        *(
            "models list",
            "models verify",
            "models adopt",
            "models threshold",
            "train",
            "db upgrade",
            "db check",
            "db copy",
            "db backup",
            "db restore",
            "db unknown",
            "failed list",
            "failed show",
            "failed retry",
            "failed discard",
            "health",
            "prune",
            "doctor",
            "completion",
        ),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    context = click.Context(COMMANDS[name], info_name=f"screen {name}")
    text = COMMANDS[name].get_help(context)
    assert len(COMMANDS[name].get_short_help_str(limit=100)) > 10
    assert re.search(rf"Examples?:\n\s+screen {name}\b", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_unless_its_name_does(name):
    obvious = {"--status", "--min-probability", "--max-probability"}
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option) and not obvious & set(option.opts):
            assert option.help, option.opts


@pytest.mark.parametrize("group", ["models", "db", "failed"])
def test_groups_have_help(group):
    assert cli.get_command(click.Context(cli), group).help


def test_the_examples_in_help_parse():
    for name, command in COMMANDS.items():
        for line in re.findall(rf"^\s+screen {name}\b(.*)$", command.help, re.MULTILINE):
            given = line.split(">")[0].split()
            options = {option for p in command.params for option in p.opts}
            assert {word for word in given if word.startswith("--")} <= options, line


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "--since", "2027-01-01", "--until", "2026-01-01"),
        ("classify", "/nowhere"),
        ("nonsense",),
        ("evaluate", "/nowhere"),
    ],
)
def test_a_usage_error_is_one_line_that_says_where_to_look(screen, tmp_path, arguments):
    ended = screen(*arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "--help'" in ended.stderr
