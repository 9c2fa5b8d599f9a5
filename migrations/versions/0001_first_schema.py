"""First schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# 64 bits: archives outgrow 32. SQLite wants its keys INTEGER, which has 64 there.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


# One row per file that came to an end: screened, duplicate or failed.
RESULTS = """
CREATE VIEW results AS
SELECT files.id AS file_id,
       files.file AS file,
       files.sha256 AS sha256,
       coalesce(screenings.decision, 'REFUSED') AS decision,
       screenings.probability AS probability,
       coalesce(screenings.threshold, models.threshold) AS threshold,
       screenings.guard_score AS guard_score,
       coalesce(screenings.guard_threshold, models.guard_threshold) AS guard_threshold,
       coalesce(failures.reason, screenings.reason) AS reason,
       coalesce(failures.message, screenings.message) AS message,
       models.name AS model,
       models.weights_sha256 AS weights_sha256,
       files.state AS status,
       files.source AS source,
       files.run_id AS run,
       screenings.page AS page,
       files.finished_at AS finished_at
FROM files
JOIN models ON models.id = files.model_id
LEFT JOIN screenings ON screenings.id = files.screening_id
LEFT JOIN failures ON failures.file_id = files.id
WHERE files.state IN ('screened', 'duplicate', 'failed')
"""

# One row per film content: its newest screening, with what the decoder found out.
LATEST_RESULTS = """
CREATE VIEW latest_results AS
SELECT films.sha256 AS sha256,
       screenings.decision AS decision,
       screenings.probability AS probability,
       screenings.threshold AS threshold,
       screenings.guard_score AS guard_score,
       screenings.guard_threshold AS guard_threshold,
       screenings.reason AS reason,
       screenings.message AS message,
       models.name AS model,
       models.weights_sha256 AS weights_sha256,
       screenings.page AS page,
       screenings.screened_at AS screened_at,
       films.format AS format,
       films.rows AS rows,
       films.columns AS columns,
       films.modality AS modality,
       films.view_position AS view_position,
       films.patient_age_years AS patient_age_years
FROM screenings
JOIN films ON films.id = screenings.film_id
JOIN models ON models.id = screenings.model_id
WHERE screenings.id = (SELECT max(newer.id) FROM screenings AS newer
                       WHERE newer.film_id = screenings.film_id)
"""


def upgrade() -> None:
    op.create_table(
        "films",
        sa.Column("id", ID, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("columns", sa.Integer(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("view_position", sa.Text(), nullable=True),
        sa.Column("body_part_examined", sa.Text(), nullable=True),
        sa.Column("patient_age_years", sa.Double(), nullable=True),
        sa.Column("photometric_interpretation", sa.Text(), nullable=True),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=True),
        sa.Column("manufacturer", sa.Text(), nullable=True),
        sa.Column("study_instance_uid", sa.Text(), nullable=True),
        sa.Column("series_instance_uid", sa.Text(), nullable=True),
        sa.Column("sop_instance_uid", sa.Text(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_films")),
        sa.UniqueConstraint("sha256", name=op.f("uq_films_sha256")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.String(length=64), nullable=False),
        sa.Column("preprocessing", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("guard_threshold", sa.Double(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint(
            "weights_sha256", "preprocessing", name=op.f("uq_models_weights_sha256_preprocessing")
        ),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("worker_version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('watch', 'backfill')", name=op.f("ck_runs_kind")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_runs_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_table(
        "screenings",
        sa.Column("id", ID, nullable=False),
        sa.Column("film_id", ID, nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("guard_score", sa.Double(), nullable=False),
        sa.Column("guard_threshold", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("evidence_rows", sa.Integer(), nullable=False),
        sa.Column("evidence_columns", sa.Integer(), nullable=False),
        sa.Column("picture", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), nullable=False),
        sa.Column("screened_at", sa.DateTime(), nullable=False),
        sa.CheckConstraint(
            "decision IN ('PNEUMONIA', 'NORMAL', 'INDETERMINATE', 'REFUSED')",
            name=op.f("ck_screenings_decision"),
        ),
        sa.CheckConstraint("probability BETWEEN 0 AND 1", name=op.f("ck_screenings_probability")),
        sa.ForeignKeyConstraint(["film_id"], ["films.id"], name=op.f("fk_screenings_film_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_screenings_model_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_screenings_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_screenings")),
        sa.UniqueConstraint("film_id", "model_id", name=op.f("uq_screenings_film_id_model_id")),
    )
    op.create_index(
        op.f("ix_screenings_decision_probability"),
        "screenings",
        ["decision", "probability"],
        unique=False,
    )
    op.create_index(op.f("ix_screenings_run_id"), "screenings", ["run_id"], unique=False)
    op.create_index(op.f("ix_screenings_screened_at"), "screenings", ["screened_at"], unique=False)
    op.create_table(
        "files",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("worker_deaths", sa.Integer(), nullable=False),
        sa.Column("screening_id", ID, nullable=True),
        sa.Column("final_name", sa.Text(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'attempted', 'screened', 'duplicate', 'failed')",
            name=op.f("ck_files_state"),
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_files_model_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_files_run_id")),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_files_screening_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        sa.UniqueConstraint(
            "source",
            "path",
            "size",
            "mtime_ns",
            "claim",
            "model_id",
            name=op.f("uq_files_source_path_size_mtime_ns_claim_model_id"),
        ),
    )
    op.create_index(op.f("ix_files_claim"), "files", ["claim"], unique=False)
    op.create_index(op.f("ix_files_run_id"), "files", ["run_id"], unique=False)
    op.create_index(op.f("ix_files_screening_id"), "files", ["screening_id"], unique=False)
    op.create_index(op.f("ix_files_state_source"), "files", ["state", "source"], unique=False)
    op.create_table(
        "failures",
        sa.Column("id", ID, nullable=False),
        sa.Column("file_id", ID, nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], name=op.f("fk_failures_file_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_failures_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_failures")),
        sa.UniqueConstraint("file_id", name=op.f("uq_failures_file_id")),
    )
    op.create_index(op.f("ix_failures_run_id"), "failures", ["run_id"], unique=False)
    op.execute(RESULTS)
    op.execute(LATEST_RESULTS)
