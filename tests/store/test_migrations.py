"""Migrations make exactly the tables that the program knows, whole or not at all."""

import shutil
import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect

from worker.assets import asset
from worker.errors import StoreError
from worker.store import database
from worker.store.database import open_database, require_current, revisions, upgrade
from worker.store.queries import RESULTS
from worker.store.tables import Base


def schema(engine):
    """SQL of everything in the database."""
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT name, sql FROM sqlite_master").fetchall()


def test_migrations_make_exactly_the_tables_of_the_program(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_check_constraints_are_those_of_the_program(engine):
    found = inspect(engine)
    for name, table in Base.metadata.tables.items():
        expected = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)}
        assert {each["name"] for each in found.get_check_constraints(name)} == expected


def test_the_views_are_there_with_the_columns_that_queries_read(engine):
    assert set(inspect(engine).get_view_names()) == {"results", "latest_results"}
    columns = [column["name"] for column in inspect(engine).get_columns("results")]
    assert columns == [column.name for column in RESULTS.columns]


def test_upgrading_again_changes_nothing(engine):
    before = schema(engine)
    upgrade(engine)
    assert schema(engine) == before


def test_a_fresh_database_has_no_schema_until_it_is_upgraded(settings):
    engine = open_database(settings, create=True)
    assert revisions(engine) == (None, "0001")
    with pytest.raises(StoreError, match="screen db upgrade"):
        require_current(engine)
    upgrade(engine)
    require_current(engine)


def test_a_migration_that_fails_leaves_nothing_behind(engine, tmp_path, monkeypatch):
    """With the driver's own transactions, half of the tables stayed."""
    before = schema(engine)
    migrations = tmp_path / "migrations"
    shutil.copytree(asset("migrations"), migrations)
    (migrations / "versions" / "0002_fails.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        "revision, down_revision = '0002', '0001'\n"
        "def upgrade():\n"
        "    op.create_table('half', sa.Column('id', sa.Integer))\n"
        "    op.execute('ALTER TABLE films ADD COLUMN half INTEGER')\n"
        "    raise RuntimeError('in the middle')\n"
    )
    monkeypatch.setattr(database, "asset", lambda _: migrations)
    with pytest.raises(RuntimeError, match="in the middle"):
        upgrade(engine)
    assert schema(engine) == before


def test_a_database_of_a_newer_program_is_refused_and_left_alone(engine, settings):
    with sqlite3.connect(settings.url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        upgrade(engine)
    with pytest.raises(StoreError, match="schema 9999"):
        require_current(engine)
