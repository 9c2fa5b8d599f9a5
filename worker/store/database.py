"""Open the database, bring its schema up to date, check it: whichever database it is."""

from contextlib import AbstractContextManager, nullcontext

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from worker.assets import asset
from worker.config import Database
from worker.errors import ConfigError, StoreError
from worker.progress import Tell, nobody
from worker.store.dialect import is_server, one_at_a_time
from worker.store.postgres import NAMES, open_server
from worker.store.postgres_check import problems_of_server
from worker.store.refusals import explain_error
from worker.store.sqlite import open_file, problems_of_file, unchecked


def open_database(settings: Database, *, create: bool = False, read_only: bool = False) -> Engine:
    """Engine for the configured database, not yet migrated.

    A file of SQLite is made when it is missing, if `create` says so; a server's database must be
    there. Raises StoreError when it is missing, NetworkFilesystem when a file lies on a share,
    ConfigError when the URL is wrong or its driver is missing. Whether a server answers shows when
    it is asked.
    """
    try:
        url = make_url(settings.url)
    except (ArgumentError, ValueError):  # their text may hold the password, and so may the value
        raise ConfigError(
            "database.url is no SQLAlchemy URL, such as sqlite:///FILE or "
            "postgresql://USER@HOST/DATABASE"
        ) from None
    if url.drivername in NAMES:
        engine = open_server(url, settings, read_only=read_only)
    elif url.get_backend_name() == "sqlite" and url.database:
        engine = open_file(url, settings, create=create, read_only=read_only)
    else:
        raise ConfigError(
            f"database.url = '{settings.shown_url}': sqlite:///FILE is supported, and "
            "postgresql://USER@HOST/DATABASE"
        )
    event.listen(engine, "handle_error", explain_error)
    return engine


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest schema, in one transaction.

    Raises StoreError when it is locked, or newer than this program.
    """
    try:
        with engine.connect() as connection, _without_keys(connection), connection.begin():
            one_at_a_time(connection, "schema")
            command.upgrade(_alembic(connection), "head")
    except CommandError as error:
        raise StoreError(
            f"the database {engine.url.database} was made by another program: {error}. Install the "
            "version of Screen that made it"
        ) from error


def _without_keys(connection: Connection) -> AbstractContextManager[None]:
    return nullcontext() if is_server(connection) else unchecked(connection)


def revisions(engine: Engine) -> tuple[str | None, str | None]:
    """(found in the database, expected by this program); `None` for an empty database."""
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    return found, ScriptDirectory.from_config(_alembic(None)).get_current_head()


def require_current(engine: Engine) -> None:
    """Raise StoreError when the schema is not the one this program expects."""
    found, expected = revisions(engine)
    if found != expected:
        raise StoreError(
            f"the database has schema {found or 'none'}, this program expects {expected}: "
            "run 'screen db upgrade', or install the program that made it"
        )


def integrity_problems(engine: Engine, tell: Tell = nobody) -> list[str]:
    """What the database's own checks find wrong with it; empty when all is well."""
    return problems_of_server(engine, tell) if is_server(engine) else problems_of_file(engine, tell)


def _alembic(connection: Connection | None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(asset("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
