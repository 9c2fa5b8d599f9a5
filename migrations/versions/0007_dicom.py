"""More of what DICOM films say, the patient where a site wants it, and answers in DICOM."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# 64 bits: archives outgrow 32. SQLite wants its keys INTEGER, which has 64 there.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

FILM_COLUMNS = (
    *("sop_class_uid", "study_date", "acquisition_date", "accession_number"),
    *("manufacturer_model_name", "device_serial_number", "software_versions", "station_name"),
    *("burned_in_annotation", "patient_id", "patient_key"),
)


def upgrade() -> None:
    for column in FILM_COLUMNS:
        op.add_column("films", sa.Column(column, sa.Text(), nullable=True))
    op.create_index(op.f("ix_films_patient_key"), "films", ["patient_key"])
    op.create_table(
        "answers",
        sa.Column("id", ID, nullable=False),
        sa.Column("screening_id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=True),
        sa.Column("sent_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint("kind IN ('sr', 'sc')", name=op.f("ck_answers_kind")),
        sa.CheckConstraint(
            "state IN ('due', 'made', 'sent', 'impossible')", name=op.f("ck_answers_state")
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_answers_screening_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answers")),
        sa.UniqueConstraint("screening_id", "kind", name=op.f("uq_answers_screening_id_kind")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_answers_sop_instance_uid")),
    )
    op.create_index(op.f("ix_answers_state_due_at"), "answers", ["state", "due_at"])
