"""Labels of the model: a decision is in the words of its card, which the model's row keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rebuild two tables (SQLite cannot drop a constraint), with the views out of the way."""
    views = op.get_bind().exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view'")
    for name, _ in (made := views.fetchall()):
        op.execute(f"DROP VIEW {name}")
    op.add_column("models", sa.Column("negative", sa.Text(), nullable=True))
    op.add_column("models", sa.Column("positive", sa.Text(), nullable=True))
    op.execute(
        "UPDATE models SET negative = json_extract(card, '$.labels[0]'), "
        "positive = json_extract(card, '$.labels[1]')"
    )
    with op.batch_alter_table("models") as models:
        models.alter_column("negative", existing_type=sa.Text(), nullable=False)
        models.alter_column("positive", existing_type=sa.Text(), nullable=False)
    with op.batch_alter_table("screenings") as screenings:
        screenings.drop_constraint(op.f("ck_screenings_decision"), type_="check")
    for _, sql in made:
        op.execute(sql)
