"""What the documents say is held to what the program does."""

import ast
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from models.cards import read_card
from models.names import SHIPPED, shipped_names
from worker.cli.main import cli
from worker.config import Database
from worker.errors import FilmError
from worker.records import Decision, Reason
from worker.report.wording import REASONS
from worker.store.database import open_database, upgrade
from worker.store.tables import Base

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def commands(group: click.Group, before: str = "screen") -> dict[str, click.Command]:
    """Every command of the program, by the words that call it."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, f"{before} {name}")
        else:
            found[f"{before} {name}"] = command
    return found


COMMANDS = commands(cli)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_stands_in_the_readme(name: str) -> None:
    assert f"`{name}" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_an_example_in_its_help(name: str) -> None:
    help_text = COMMANDS[name].help or ""
    assert "Example" in help_text
    assert f"  {name}" in help_text


@pytest.mark.parametrize("slug", [kind.slug for kind in FilmError.__subclasses__()] + list(Reason))
def test_a_reason_is_explained(slug: str) -> None:
    assert f"`{slug}`" in (ROOT / "docs" / "OUTCOMES.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("slug", list(Reason))
def test_a_film_page_explains_a_reason_as_the_documents_do(slug: Reason) -> None:
    table = (ROOT / "docs" / "OUTCOMES.md").read_text(encoding="utf-8")
    assert f"| `{slug}` | {REASONS[slug]} |" in table


@pytest.mark.parametrize("kind", FilmError.__subclasses__(), ids=lambda kind: kind.slug)
def test_the_documents_advise_as_the_worklist_does(kind: type[FilmError]) -> None:
    outcomes = (ROOT / "docs" / "OUTCOMES.md").read_text(encoding="utf-8")
    rows = [line for line in outcomes.splitlines() if line.endswith(f"| {kind.advice} |")]
    assert any(f"`{kind.slug}`" in row for row in rows)


@pytest.mark.parametrize("decision", list(Decision))
def test_a_decision_is_explained(decision: str) -> None:
    assert f"| `{decision}` |" in (ROOT / "docs" / "OUTCOMES.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", Base.metadata.tables)
def test_a_table_is_described(table: str) -> None:
    assert f"- `{table}`:" in (ROOT / "docs" / "DATABASE.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A database as the migrations make it."""
    file = tmp_path_factory.mktemp("schema") / "screen.db"
    engine = open_database(Database(url=f"sqlite:///{file}"), create=True)
    upgrade(engine)
    engine.dispose()
    with closing(sqlite3.connect(file)) as connection:
        yield connection


def described(heading: str) -> list[str]:
    """Columns in the table below a heading of docs/DATABASE.md, in its order."""
    text = (ROOT / "docs" / "DATABASE.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}[^\n]*\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall("`([^`]+)`", cell)]


@pytest.mark.parametrize("view", ["results", "latest_results"])
def test_a_view_is_described_column_by_column(database: sqlite3.Connection, view: str) -> None:
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({view})")]
    assert sorted(described(f"View `{view}`")) == sorted(columns)


def test_every_view_is_described(database: sqlite3.Connection) -> None:
    views = database.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")
    assert all(described(f"View `{name}`") for (name,) in views)


def test_the_columns_of_reviews_are_described(database: sqlite3.Connection) -> None:
    text = (ROOT / "docs" / "DATABASE.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^- `reviews`:.*?(?=^- )", text, re.MULTILINE | re.DOTALL)
    columns = {row[1] for row in database.execute("PRAGMA table_info(reviews)")}
    assert columns - {"id"} <= set(re.findall("`([^`]+)`", line))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)  # code has its own ](
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [name for name in targets if not (document.parent / name).exists()] == []


@pytest.mark.parametrize("name", shipped_names())
def test_the_model_card_says_what_the_card_of_each_shipped_model_says(name: str) -> None:
    text = (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")
    card = read_card(SHIPPED / name)
    assert card.weights.sha256 in text
    assert f"{card.decision.threshold:.3f}" in text
    for domain in card.metrics["held_out_domains"].values():
        for rate in ("auc", "sensitivity", "specificity", "answered", "accuracy_answered"):
            assert f"{domain[rate]:.3f}" in text, rate


def test_the_error_tree_names_every_error() -> None:
    source = (ROOT / "worker" / "errors.py").read_text(encoding="utf-8")
    tree = ast.get_docstring(ast.parse(source)) or ""
    names = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert [name for name in names if name not in tree] == []


def readme_session() -> list[str]:
    """The lines of the README's first example of a site."""
    block = re.search(r"<!-- runs in tests -->\s*```\w*\n(.*?)```", README, re.DOTALL)
    assert block is not None
    return block[1].strip().splitlines()


@pytest.mark.slow
def test_the_readme_s_example_runs_as_written(tmp_path: Path) -> None:
    binaries = Path(sys.executable).parent
    script = "\n".join(readme_session()).replace("path/to/films", str(ROOT / "tests" / "films"))
    subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        check=True,
        env={"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(tmp_path)},
        timeout=240,
    )
    assert (tmp_path / "clinic" / "reports" / "index.html").is_file()
