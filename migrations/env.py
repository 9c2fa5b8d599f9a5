"""Alembic's way in: runs on the connection that `worker.store.database` hands over."""

from alembic import context

from worker.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
