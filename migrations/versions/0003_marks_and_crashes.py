"""The site's own mark, and crashes of the worker counted apart from kills."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column and a table; existing rows have no crashes that are known of."""
    op.add_column(
        "files", sa.Column("worker_crashes", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_table(
        "site",
        sa.Column("mark", sa.String(32), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("mark", name=op.f("pk_site")),
    )
