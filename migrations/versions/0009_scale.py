"""How far archives were listed, films without a report on purpose, and what waits, by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

WAITS = sa.text("state = 'waiting'")

# One row per file that came to an end: screened, duplicate or failed.
RESULTS = """
CREATE VIEW results AS
SELECT files.id AS file_id,
       files.file AS file,
       files.sha256 AS sha256,
       files.decision AS decision,
       files.probability AS probability,
       coalesce(screenings.threshold, models.threshold) AS threshold,
       screenings.guard_score AS guard_score,
       coalesce(screenings.guard_threshold, models.guard_threshold) AS guard_threshold,
       files.reason AS reason,
       coalesce(failures.message, screenings.message) AS message,
       models.name AS model,
       models.weights_sha256 AS weights_sha256,
       files.state AS status,
       files.source AS source,
       files.run_id AS run,
       CASE WHEN screenings.report_removed_at IS NULL AND NOT screenings.report_left_out
            THEN screenings.page END AS page,
       files.finished_at AS finished_at,
       failures.resolution AS resolution,
       screenings.report_removed_at AS page_removed_at,
       reviews.verdict AS verdict,
       reviews.finding AS finding,
       reviews.note AS review_note,
       reviews.reviewer AS reviewer,
       reviews.reviewed_at AS reviewed_at
FROM files
JOIN models ON models.id = files.model_id
LEFT JOIN screenings ON screenings.id = files.screening_id
LEFT JOIN failures ON failures.file_id = files.id
LEFT JOIN reviews ON reviews.id =
    (SELECT max(newest.id) FROM reviews AS newest WHERE newest.screening_id = screenings.id)
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
       CASE WHEN screenings.report_removed_at IS NULL AND NOT screenings.report_left_out
            THEN screenings.page END AS page,
       screenings.screened_at AS screened_at,
       films.format AS format,
       films.rows AS rows,
       films.columns AS columns,
       films.modality AS modality,
       films.view_position AS view_position,
       films.patient_age_years AS patient_age_years,
       reviews.verdict AS verdict,
       reviews.finding AS finding,
       reviews.note AS review_note,
       reviews.reviewer AS reviewer,
       reviews.reviewed_at AS reviewed_at
FROM screenings
JOIN films ON films.id = screenings.film_id
JOIN models ON models.id = screenings.model_id
LEFT JOIN reviews ON reviews.id =
    (SELECT max(newest.id) FROM reviews AS newest WHERE newest.screening_id = screenings.id)
WHERE screenings.id = (SELECT max(newer.id) FROM screenings AS newer
                       WHERE newer.film_id = screenings.film_id)
"""


def upgrade() -> None:
    op.create_table(
        "archives",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("begun_at", sa.DateTime(), nullable=False),
        sa.Column("listed_at", sa.DateTime(), nullable=True),
        sa.Column("listed_to", sa.LargeBinary(), nullable=True),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_archives_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archives")),
        sa.UniqueConstraint("source", "model_id", name=op.f("uq_archives_source_model_id")),
    )
    op.create_index(
        "ix_files_manifest",
        "files",
        ["source", "model_id", "state", "id"],
        sqlite_where=WAITS,
        postgresql_where=WAITS,
    )
    if op.get_bind().dialect.name == "postgresql":  # several workers may record one claim
        op.drop_index(op.f("ix_files_claim"), "files")
        claimed = sa.text("claim <> ''")
        op.create_index("uq_files_claim", "files", ["claim"], unique=True, postgresql_where=claimed)
    op.add_column("site", sa.Column("history", sa.String(32), nullable=False, server_default=""))
    op.add_column(
        "screenings",
        sa.Column("report_left_out", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index(
        op.f("ix_screenings_report_left_out_report_removed_at_id"),
        "screenings",
        ["report_left_out", "report_removed_at", "id"],
    )
    for view, statement in (("results", RESULTS), ("latest_results", LATEST_RESULTS)):
        op.execute(f"DROP VIEW {view}")
        op.execute(statement)
