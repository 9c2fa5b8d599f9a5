"""Labels of the model: a decision is in the words of its card, which the model's row keeps.

Cards change with it: a model may have several networks.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rebuild two tables (SQLite cannot drop a constraint), with the views out of the way."""
    found = sa.inspect(op.get_bind())
    views = {name: found.get_view_definition(name) or "" for name in found.get_view_names()}
    for name in views:
        op.execute(f"DROP VIEW {name}")
    op.add_column("models", sa.Column("negative", sa.Text(), nullable=True))
    op.add_column("models", sa.Column("positive", sa.Text(), nullable=True))
    _rewrite_cards()
    with op.batch_alter_table("models") as models:
        models.alter_column("negative", existing_type=sa.Text(), nullable=False)
        models.alter_column("positive", existing_type=sa.Text(), nullable=False)
    with op.batch_alter_table("screenings") as screenings:
        screenings.drop_constraint(op.f("ck_screenings_decision"), type_="check")
    for name, sql in views.items():  # PostgreSQL gives the question alone
        op.execute(sql if sql.startswith("CREATE") else f"CREATE VIEW {name} AS {sql}")


def _rewrite_cards() -> None:
    """Fill the labels; write the one network of each model as its one member."""
    models = sa.table(
        "models",
        sa.column("id", sa.Integer),
        sa.column("card", sa.Text),
        sa.column("negative", sa.Text),
        sa.column("positive", sa.Text),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(models.c.id, models.c.card)).all():
        card = json.loads(row.card)
        constants = dict(card["input"])
        member = {
            "architecture": card.pop("architecture"),
            "mean": constants.pop("mean"),
            "std": constants.pop("std"),
        }
        card |= {"input": constants, "members": [member]}
        negative, positive = card["labels"]
        connection.execute(
            sa.update(models)
            .where(models.c.id == row.id)
            .values(card=json.dumps(card), negative=negative, positive=positive)
        )
