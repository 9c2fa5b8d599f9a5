"""The recipes of docs/QUERY.md run as written, on real films, and answer what the page shows."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

from worker.config import load_config
from worker.store.database import open_database
from worker.store.reviews import Review, add_review

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "QUERY.md").read_text(encoding="utf-8")
SITE = "/srv/clinic"  # what the page calls the site's folder
BLOCKS = re.compile(r"```(sh|sql|python)\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
RECIPES = {  # heading → what is asked, and what is answered
    section.partition("\n")[0]: BLOCKS.findall(section)
    for section in re.split("^## ", PAGE, flags=re.MULTILINE)[1:]
}
SETTINGS = "[watch]\nsettle_s = 0.2\nincomplete_after_s = 0.1\n[batch]\nsize = 4\n"
REVIEWS = (  # film, verdict, what the reader saw, note
    ("NORMAL2-IM-1430-0001.jpeg", "disagree", "PNEUMONIA", "faint shadow, right base"),
    ("person1946_bacteria_4874.jpeg", "agree", "PNEUMONIA", ""),
    ("person1947_bacteria_4876.jpeg", "disagree", "NORMAL", "expiration, lungs clear"),
    ("NORMAL2-IM-1431-0001.jpeg", "unclear", None, "rotated: repeat the film"),
)
# The clock of the page: a film every ten minutes in one night, every few seconds the day after.
CLOCK = (
    """UPDATE files SET finished_at = datetime(
           CASE source WHEN 'inbox' THEN '2026-11-22 21:00' ELSE '2026-11-23 09:00' END,
           (SELECT count(*) * CASE files.run_id WHEN 1 THEN 600 ELSE files.run_id END
            FROM files AS before
            WHERE before.run_id = files.run_id AND before.file < files.file)
           || ' seconds') || '.000000'""",
    """UPDATE runs SET
           started_at = (SELECT datetime(min(finished_at), '-1 seconds') || '.000000'
                         FROM files WHERE run_id = runs.id),
           finished_at = (SELECT max(finished_at) FROM files WHERE run_id = runs.id)""",
    """UPDATE screenings SET screened_at =
           (SELECT min(finished_at) FROM files WHERE screening_id = screenings.id)""",
)


def demo_dicom() -> Path:
    return Path(find_spec("data_store").origin).parent / "data" / "RG1_UNCR.dcm"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory, screen, sample_films):
    """A site that screened a night's films, then an archive with two models; three reviews."""
    site = tmp_path_factory.mktemp("srv") / "clinic"
    assert screen("init", site, cwd=site.parent).returncode == 0
    (site / "config.toml").write_text(SETTINGS)
    (site / "ensemble.toml").write_text(f"{SETTINGS}[model]\nname = 'kermany-ensemble'\n")
    films = sorted(sample_films.glob("*/*.jpeg"), key=lambda path: path.name)
    archive = site / "archive" / "2019"
    archive.mkdir(parents=True)
    for number, film in enumerate(films):
        shutil.copy(film, archive if number % 4 == 3 else site / "inbox")
    shutil.copy(films[0], site / "inbox" / "again.jpeg")
    shutil.copy(demo_dicom(), site / "inbox")
    (site / "inbox" / "cut.jpeg").write_bytes(films[1].read_bytes()[:-400])
    (archive / "letter.txt").write_text("no film")
    assert screen("watch", "--once", cwd=site).returncode == 3
    for config in ("config.toml", "ensemble.toml"):
        assert screen("--config", config, "backfill", archive, cwd=site).returncode == 3
    look_back(load_config(site / "config.toml"))
    return site


def look_back(config):
    """Set the clock of the page, and say what readers said."""
    engine = open_database(config.database)
    with engine.begin() as connection:
        for statement in CLOCK:
            connection.exec_driver_sql(statement)
        answers = connection.exec_driver_sql("SELECT file, screening_id FROM files")
        found = dict(answers.all())
    for minutes, (film, verdict, finding, note) in enumerate(REVIEWS):
        when = datetime(2026, 11, 23, 7, minutes, tzinfo=UTC)
        add_review(engine, Review(found[film], verdict, finding, note, "Dr. Ada", when))
    engine.dispose()


def run(kind: str, code: str, site: Path) -> str:
    """What a block says, as the page would show it."""
    code = code.replace(SITE, str(site))
    command = {
        "sh": ["bash", "-euc", code],
        "sql": ["screen", "query", "--sql", code],
        "python": ["python", "-c", code],
    }[kind]
    binaries = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{binaries}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=site, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.replace(str(site), SITE)


def told(output: str) -> list[str]:
    """Words, whatever their columns: these depend on how long the site's path is here."""
    return [" ".join(line.split()) for line in re.sub(r"[\d.]+ MB", "MB", output).splitlines()]


def test_there_are_ten_recipes_and_more_each_with_its_answer():
    assert len(RECIPES) >= 10
    assert [title for title, blocks in RECIPES.items() if len(blocks) != 1] == []
    asked = [(kind, code) for blocks in RECIPES.values() for kind, code, _ in blocks]
    assert {kind for kind, _ in asked} == {"sh", "sql", "python"}
    for tool in ("sqlite3 -", "pandas", "datasette"):
        assert any(tool in code for _, code in asked), tool


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_answers_what_the_page_shows(clinic, title):
    for kind, code, expected in RECIPES[title]:
        if "sqlite3 -" in code and shutil.which("sqlite3") is None:
            pytest.skip("no sqlite3 on this machine")
        assert told(run(kind, code, clinic)) == told(expected)
