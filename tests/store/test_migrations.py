"""Migrations make exactly the tables that the program knows, whole or not at all."""

import json
import shutil
from datetime import date

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, text

from worker.assets import asset
from worker.config import Database
from worker.errors import StoreError
from worker.store import database
from worker.store.database import (
    integrity_problems,
    open_database,
    require_current,
    revisions,
    upgrade,
)
from worker.store.queries import RESULTS, results
from worker.store.removals import Day, days_lived
from worker.store.runs import latest_card
from worker.store.tables import Base
from worker.store.work import register_model

pytestmark = pytest.mark.databases


VIEWS = {"results", "latest_results"}


def schema(engine):
    """Everything in the database, as far as the database tells."""
    found = inspect(engine)
    looks = (found.get_columns, found.get_indexes, found.get_foreign_keys)
    looks += (found.get_unique_constraints, found.get_check_constraints)
    tables = {t: [_said(look(t)) for look in looks] for t in found.get_table_names()}
    return tables | {view: found.get_view_definition(view) for view in found.get_view_names()}


def _said(found):
    """As text; the condition of an index is an object that has none."""
    for each in found:
        for option, value in each.get("dialect_options", {}).items():
            each["dialect_options"][option] = str(value)
    return str(found)


OF_THE_OTHER = {"sqlite": "uq_files_claim", "postgresql": "ix_files_claim"}


def test_migrations_make_exactly_the_tables_of_the_program(engine):
    def is_ours(_item, name, *_):
        return name != OF_THE_OTHER[engine.dialect.name]

    assert OF_THE_OTHER[engine.dialect.name] not in str(inspect(engine).get_indexes("files"))
    with engine.connect() as connection:
        options = {"compare_type": True, "include_object": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_check_constraints_are_those_of_the_program(engine):
    found = inspect(engine)
    for name, table in Base.metadata.tables.items():
        expected = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)}
        assert {each["name"] for each in found.get_check_constraints(name)} == expected


def test_the_views_are_there_with_the_columns_that_queries_read(engine):
    assert set(inspect(engine).get_view_names()) == VIEWS
    columns = [column["name"] for column in inspect(engine).get_columns("results")]
    assert columns == [column.name for column in RESULTS.columns]


def test_upgrading_again_changes_nothing(engine):
    before = schema(engine)
    upgrade(engine)
    assert schema(engine) == before


@pytest.fixture
def empty(empty_url):
    """Engine of a database without any table."""
    engine = open_database(Database(url=empty_url), create=True)
    yield engine
    engine.dispose()


def test_a_fresh_database_has_no_schema_until_it_is_upgraded(empty):
    engine = empty
    assert revisions(engine) == (None, "0009")
    with pytest.raises(StoreError, match="screen db upgrade"):
        require_current(engine)
    upgrade(engine)
    require_current(engine)


def test_a_migration_that_fails_leaves_nothing_behind(engine, tmp_path, monkeypatch):
    """With the driver's own transactions, half of the tables stayed."""
    before = schema(engine)
    migrations = tmp_path / "migrations"
    shutil.copytree(asset("migrations"), migrations)
    _, newest = revisions(engine)
    (migrations / "versions" / "fails.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision = 'fails', '{newest}'\n"
        "def upgrade():\n"
        "    op.create_table('half', sa.Column('id', sa.Integer))\n"
        "    op.execute('ALTER TABLE films ADD COLUMN half INTEGER')\n"
        "    raise RuntimeError('in the middle')\n"
    )
    monkeypatch.setattr(database, "asset", lambda _: migrations)
    with pytest.raises(RuntimeError, match="in the middle"):
        upgrade(engine)
    assert schema(engine) == before


@pytest.fixture
def old_engine(empty, card, noon):
    """A database of schema 0001 with one screened film of the model that was shipped then."""
    engine = empty
    with engine.begin() as connection:
        command.upgrade(database._alembic(connection), "0001")
        for table, values in old_rows(card).items():
            names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
            sql = text(f"INSERT INTO {table} ({names}) VALUES ({marks})")
            connection.execute(sql, values)
    return engine


def old_rows(card):
    """What the program wrote with schema 0001: table → values."""
    moment, sha256 = "2026-05-03 12:00:00.000000", "aa" * 32
    model = {"name": "tiny", "version": "0", "architecture": "mobilenet_v2"}
    model |= {"weights_sha256": "cd" * 32, "preprocessing": "1", "threshold": 0.6}
    old_card = card.model_dump(mode="json")
    [member] = old_card.pop("members")  # a model was one network then
    old_card["architecture"] = member.pop("architecture")
    old_card["input"] |= member
    model |= {"guard_threshold": 0.5, "card": json.dumps(old_card), "registered_at": moment}
    run = {"kind": "watch", "source": "inbox", "model_id": 1, "device": "cpu"}
    run |= {"precision": "float32", "worker_version": "0.1.0", "started_at": moment}
    film = {"sha256": sha256, "format": "PNG", "rows": 2, "columns": 3, "notes": "[]"}
    screening = {"film_id": 1, "model_id": 1, "run_id": 1, "decision": "PNEUMONIA"}
    screening |= {"probability": 0.9, "threshold": 0.6, "guard_score": 0.1, "guard_threshold": 0.5}
    screening |= {"message": "", "evidence": b"\0\0\0\0", "evidence_rows": 1}
    screening |= {"evidence_columns": 1, "picture": "p.jpg", "page": "p.html"}
    file = {"run_id": 1, "model_id": 1, "source": "inbox", "file": "a.png", "path": b"a.png"}
    file |= {"size": 5, "mtime_ns": 7, "claim": "c", "state": "screened", "sha256": sha256}
    file |= {"attempts": 1, "strikes": 0, "worker_deaths": 0, "screening_id": 1}
    return {
        "models": model,
        "runs": run,
        "films": film | {"first_seen_at": moment},
        "screenings": screening | {"screened_at": moment},
        "files": file | {"recorded_at": moment, "finished_at": moment},
    }


def content(engine, *tables):
    with engine.connect() as connection:
        return {t: connection.execute(text(f"SELECT * FROM {t}")).mappings().all() for t in tables}


def _older_columns(found, before):
    """What was found, without the columns that are new."""
    return {
        table: [
            {name: row[name] for name in old} for row, old in zip(rows, before[table], strict=True)
        ]
        for table, rows in found.items()
    }


def test_an_upgrade_counts_the_days_that_the_site_has_lived(old_engine):
    """Films age by days on which the worker ran: those of an older program must count."""
    upgrade(old_engine)
    assert days_lived(old_engine) == [Day(date(2026, 5, 3), 0)]


def test_an_upgrade_to_labels_keeps_every_row_and_what_the_views_say(old_engine):
    tables = ("runs", "films", "screenings", "files", "results", "latest_results")
    before = content(old_engine, *tables)
    assert len(before["results"]) == 1
    upgrade(old_engine)
    assert _older_columns(content(old_engine, *tables), before) == before
    assert integrity_problems(old_engine) == []


@pytest.mark.databases("sqlite")
def test_foreign_keys_hold_after_an_upgrade(old_engine):
    upgrade(old_engine)
    with old_engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_an_upgraded_database_reads_the_cards_of_its_models(old_engine, card):
    upgrade(old_engine)
    assert latest_card(old_engine) == card


def test_an_upgraded_database_knows_the_labels_of_its_models(old_engine, new_card, noon):
    upgrade(old_engine)
    [result] = results(old_engine)
    assert (result.labels, result.record.decision) == (("NORMAL", "PNEUMONIA"), "PNEUMONIA")
    register_model(old_engine, new_card(labels=("CLEAR", "TUBERCULOSIS")), "2", noon)
    with old_engine.begin() as connection:
        connection.execute(text("UPDATE screenings SET model_id = 2, decision = 'TUBERCULOSIS'"))


def test_a_database_of_a_newer_program_is_refused_and_left_alone(engine):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="another program"):
        upgrade(engine)
    with pytest.raises(StoreError, match="schema 9999"):
        require_current(engine)
