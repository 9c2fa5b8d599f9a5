"""Pages of runs: what ran, how fast, how its scores moved, what failed; written when it changed."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from bench import synthetic
from worker.cli.main import cli
from worker.report.site import pages_due, render_runs, write_worklist
from worker.store.runs import covered_s, latest_card, run_facts, run_ids, score_spread
from worker.store.work import begin_run, register_model

pytestmark = pytest.mark.databases

NOW = datetime(2026, 9, 1, tzinfo=UTC)
RUN_FILES = 500


@pytest.fixture
def ran(quick_site, monkeypatch):
    """A site with three runs, of 500, 500 and 200 files."""
    from worker.site import hold_site

    monkeypatch.setattr(synthetic, "_RUN_FILES", RUN_FILES)
    with hold_site(quick_site) as engine:
        synthetic.fill(engine, 1200)
        write_worklist(quick_site.site, engine, NOW)
        yield quick_site, engine


def folder(config):
    return config.site.reports / "runs"


def again(ran, **more):
    """Write the worklist; the names of the run pages that were written."""
    config, engine = ran
    before = {path.name: path.stat().st_ino for path in folder(config).glob("*.html")}
    write_worklist(config.site, engine, NOW, **more)
    after = {path.name: path.stat().st_ino for path in folder(config).glob("*.html")}
    return {name for name in after if after[name] != before.get(name)}


def page_of(config, run):
    return (folder(config) / f"{run}.html").read_text(encoding="utf-8")


def changed(engine, sql):
    with engine.begin() as connection:
        connection.execute(text(sql))


def test_every_run_has_a_page_and_every_link_to_one_leads_somewhere(ran):
    config, _ = ran
    index = (config.site.reports / "index.html").read_text()
    linked = set(re.findall(r'href="(runs/[^"]+)"', index))
    assert linked == {"runs/1.html", "runs/2.html", "runs/3.html"}
    assert all((config.site.reports / link).is_file() for link in linked)
    assert all('href="../index.html"' in page_of(config, run) for run in (1, 2, 3))


def test_a_page_counts_what_its_run_decided(ran):
    config, engine = ran
    page = page_of(config, 2)
    counts = [int(n) for n in re.findall(r'tile-count">(\d+)<', page)]
    with engine.connect() as connection:
        asked = "SELECT decision, status, count(*) FROM results WHERE run = 2 GROUP BY 1, 2"
        found = {row[:2]: row[2] for row in connection.execute(text(asked))}
    assert counts == [
        found["PNEUMONIA", "screened"],
        found["INDETERMINATE", "screened"],
        found["REFUSED", "screened"],
        found["REFUSED", "failed"],
        found["NORMAL", "screened"],
    ]


def test_only_runs_that_changed_are_written_again(ran):
    _, engine = ran
    assert again(ran) == set()
    changed(engine, "UPDATE runs SET finished_at = NULL WHERE id = 2")
    assert again(ran) == {"2.html"}
    synthetic.fill(engine, 10)
    assert again(ran) == {"3.html"}


def test_a_page_that_is_missing_or_was_cut_short_is_written_again(ran):
    config, _ = ran
    (folder(config) / "1.html").unlink()
    page = folder(config) / "3.html"
    page.write_bytes(page.read_bytes()[:500])
    assert again(ran) == {"1.html", "3.html"}


def test_missing_pages_are_made_newest_first_and_a_few_at_a_time(ran):
    config, engine = ran
    for page in folder(config).iterdir():
        page.unlink()
    assert pages_due(config.site, engine)
    assert again(ran, at_most=2) == {"3.html", "2.html"}
    assert pages_due(config.site, engine)
    assert again(ran, at_most=2) == {"1.html"}
    assert not pages_due(config.site, engine)


def test_a_report_command_renders_them_all_or_one(ran):
    config, engine = ran
    for page in folder(config).iterdir():
        page.write_text("old")
    render_runs(config.site, engine, NOW, 2)
    assert [page_of(config, run) == "old" for run in (1, 2, 3)] == [True, False, True]
    render_runs(config.site, engine, NOW)
    assert "old" not in [page_of(config, run) for run in run_ids(engine)]


def test_its_failures_say_what_to_do_and_are_bounded(ran, monkeypatch):
    config, engine = ran
    changed(engine, "UPDATE failures SET reason = 'truncated-file' WHERE run_id = 1")
    facts = run_facts(engine, 1)
    assert facts.failed == len(facts.failures) > 2
    monkeypatch.setattr("worker.store.runs.FAILURES_SHOWN", 2)
    render_runs(config.site, engine, NOW, 1)
    page = page_of(config, 1)
    assert page.count("<b>Truncated file.</b>") == 2
    assert f"{facts.failed} files could not be read" in page
    assert "the newest 2 stand here" in page
    assert "screen failed list --run 1 --all" in page


def test_the_command_that_the_page_names_lists_that_run_alone(ran, monkeypatch):
    from click.testing import CliRunner

    config, engine = ran
    said = CliRunner().invoke(
        cli, ["failed", "list", "--run", "1", "--all", "--config", str(config.source)]
    )
    assert said.exit_code == 0
    assert len(said.stdout.splitlines()) == run_facts(engine, 1).failed


def test_drift_is_shown_against_the_reference_and_called_by_its_name(ran):
    config, engine = ran
    page = page_of(config, 1)
    assert "Population stability index" in page
    assert "Filled bars: this run. Dashed outline: the reference." in page
    assert "The network was trained on these very films" in page
    changed(
        engine,
        "UPDATE screenings SET decision = 'NORMAL', probability = 0.2 WHERE run_id = 1",
    )
    render_runs(config.site, engine, NOW, 1)
    assert "Scores lie far from the reference" in page_of(config, 1)


def test_guard_scores_beyond_the_threshold_are_told_and_never_alike(ran):
    config, engine = ran
    changed(engine, "UPDATE screenings SET guard_score = 0.01 WHERE run_id = 1")
    render_runs(config.site, engine, NOW, 1)
    assert "lie 0.0% of the guard scores; 0.0% in the reference" in page_of(config, 1)
    changed(engine, "UPDATE screenings SET guard_score = 0.8 WHERE run_id = 1 AND id % 4 = 0")
    render_runs(config.site, engine, NOW, 1)
    page = page_of(config, 1)
    assert "Guard scores lie far from the reference" in page
    assert re.search(r"lie 2\d\.\d% of the guard scores; 0\.0% in the reference", page)


@pytest.mark.databases("sqlite")
def test_a_model_without_reference_has_nothing_to_compare_with(ran):
    config, engine = ran
    changed(engine, "UPDATE models SET card = json_remove(card, '$.reference')")
    render_runs(config.site, engine, NOW, 1)
    page = page_of(config, 1)
    assert "has no reference" in page
    assert "Scores of all films that were answered" in page


def test_the_spread_counts_each_answered_film_once(ran):
    _, engine = ran
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT decision, probability FROM screenings")).all()
    expected = {decision: [0] * 20 for decision, _ in rows}
    for decision, probability in rows:
        expected[decision][min(int(probability * 20), 19)] += 1
    found = score_spread(engine, latest_card(engine))
    assert {decision: list(counts) for decision, counts in found.items()} == expected


def test_a_score_of_one_stands_in_the_last_bin(ran):
    _, engine = ran
    changed(engine, "UPDATE screenings SET probability = 1, decision = 'PNEUMONIA'")
    counts = score_spread(engine, latest_card(engine))["PNEUMONIA"]
    assert counts[-1] == sum(counts) > 0


def test_answers_of_other_weights_or_in_other_words_stay_out_of_the_histogram(ran):
    config, engine = ran
    card = latest_card(engine)
    other = card.model_copy(update={"labels": ("CLEAR", "TUBERCULOSIS")})
    register_model(engine, other, "synthetic, other words", NOW)
    for table, where in (("runs", "id"), ("files", "run_id"), ("screenings", "run_id")):
        changed(engine, f"UPDATE {table} SET model_id = 2 WHERE {where} = 3")
    for old, new in (("NORMAL", "CLEAR"), ("PNEUMONIA", "TUBERCULOSIS")):
        for table in ("files", "screenings"):
            said = f"decision = '{new}' WHERE decision = '{old}' AND run_id = 3"
            changed(engine, f"UPDATE {table} SET {said}")
    assert set(score_spread(engine, other)) <= {"CLEAR", "TUBERCULOSIS", "INDETERMINATE", "REFUSED"}
    assert "CLEAR" not in score_spread(engine, card)
    write_worklist(config.site, engine, NOW)
    index = (config.site.reports / "index.html").read_text()
    assert re.search(r"also \d+ that other weights answered", index)
    assert "TUBERCULOSIS" in page_of(config, 3)


@pytest.mark.databases("sqlite")
def test_a_run_of_which_nothing_came_yet_has_a_page(ran):
    config, engine = ran
    begin_run(
        engine, kind="watch", source="inbox", model_id=1, device="cpu", precision="float32", now=NOW
    )
    write_worklist(config.site, engine, NOW)
    page = page_of(config, 4)
    assert "still running" in page
    assert "No film of this run was answered" in page
    assert "Every file of this run could be read" in page


def test_a_run_that_answered_nothing_has_a_page(ran):
    config, engine = ran
    changed(engine, "UPDATE screenings SET decision = 'REFUSED' WHERE run_id = 3")
    render_runs(config.site, engine, NOW, 3)
    assert "100.0% of the decoded films were refused" in page_of(config, 3)


def moments(*pairs):
    return [tuple(NOW + timedelta(seconds=each) for each in pair) for pair in pairs]


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ((), 0),
        (((0, 10),), 10),
        (((0, 10), (20, 25)), 15),
        (((0, 10), (5, 25)), 25),
        (((0, 30), (5, 6)), 30),
        (((0, 10), (10, 20), (0, 20)), 20),
        (((10, 0), (20, 30)), 10),  # a clock that jumped back took no time
    ],
)
def test_time_with_films_in_hand_counts_once_and_idle_time_never(spans, seconds):
    assert covered_s(moments(*spans)) == seconds


def test_idle_time_is_no_speed(ran):
    config, engine = ran
    day, later = "'2026-02-01 08:00:00.000000'", "'2026-02-05 08:00:00.000000'"
    changed(engine, f"UPDATE runs SET started_at = {day}, finished_at = NULL WHERE id = 3")
    for odd, began in ((1, day), (0, later)):
        mine = f"WHERE run_id = 3 AND id % 2 = {odd}"
        ended = began.replace("08:00:00", "08:00:10")
        changed(engine, f"UPDATE files SET recorded_at = {began} {mine}")
        changed(
            engine, f"UPDATE files SET finished_at = {ended} {mine} AND finished_at IS NOT NULL"
        )
    facts = run_facts(engine, 3)
    assert facts.busy_s == 20
    render_runs(config.site, engine, NOW, 3)
    assert f"{facts.busy_files / 20:.2f} films a second" in page_of(config, 3)


def test_hostile_names_stay_names(ran):
    config, engine = ran
    changed(engine, "UPDATE files SET file = '<script>alert(1)</script>' WHERE state = 'failed'")
    changed(engine, "UPDATE runs SET source = '<img src=x>'")
    render_runs(config.site, engine, NOW, 1)
    page = page_of(config, 1)
    assert "<img" not in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
