"""Several workers on one database: who they are, and what each of them has leased.

Only PostgreSQL serves several; on SQLite the columns stay NULL.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = (
    ("files", "site_mark", sa.String(32)),
    ("files", "worker_id", sa.Integer()),
    ("files", "lease_token", sa.BigInteger()),
    ("files", "lease_until", sa.DateTime()),
    ("runs", "worker_id", sa.Integer()),
)
WAITING, ATTEMPTED = sa.text("state = 'waiting'"), sa.text("state = 'attempted'")


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))
    for name, columns, rows in (
        ("waiting", ["source", "site_mark", "recorded_at", "id"], WAITING),
        ("leased", ["worker_id"], ATTEMPTED),
    ):
        where = {"sqlite_where": rows, "postgresql_where": rows}
        op.create_index(op.f(f"ix_files_{name}"), "files", columns, **where)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE lease_tokens")
