"""For operators: failures that were retried or discarded, retention of films and reports.

`results` and `latest_results` give no page that retention removed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
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
       CASE WHEN screenings.report_removed_at IS NULL THEN screenings.page END AS page,
       files.finished_at AS finished_at,
       failures.resolution AS resolution,
       screenings.report_removed_at AS page_removed_at
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
       CASE WHEN screenings.report_removed_at IS NULL THEN screenings.page END AS page,
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

# Days that an older program is known to have run on: films age by such days.
DAYS_LIVED = """
INSERT INTO retention_days (day, last_file_before, films, reports, freed_bytes)
SELECT day, (SELECT coalesce(max(id), 0) FROM files WHERE date(recorded_at) < day), 0, 0, 0 FROM (
    SELECT date(finished_at) AS day FROM files WHERE finished_at IS NOT NULL
    UNION SELECT date(started_at) FROM runs
    UNION SELECT date(finished_at) FROM runs WHERE finished_at IS NOT NULL
) AS lived
"""


def upgrade() -> None:
    for view in ("results", "latest_results"):
        op.execute(f"DROP VIEW {view}")
    op.add_column("screenings", sa.Column("report_removed_at", sa.DateTime(), nullable=True))
    op.add_column("files", sa.Column("film_removed_at", sa.DateTime(), nullable=True))
    op.create_index(op.f("ix_files_final_name"), "files", ["final_name"], unique=False)
    with op.batch_alter_table("failures") as failures:
        failures.add_column(sa.Column("resolution", sa.Text(), nullable=True))
        failures.add_column(sa.Column("resolved_at", sa.DateTime(), nullable=True))
        failures.create_check_constraint(
            op.f("ck_failures_resolution"), "resolution IN ('retrying', 'retried', 'discarded')"
        )
    op.create_table(
        "retention_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("last_file_before", ID, nullable=False),
        sa.Column("films", sa.Integer(), nullable=False),
        sa.Column("reports", sa.Integer(), nullable=False),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_removed_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_retention_days")),
    )
    op.create_table(
        "removals",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("screening_id", ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["screening_id"], ["screenings.id"], name=op.f("fk_removals_screening_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removals")),
    )
    op.execute(DAYS_LIVED)
    op.execute(RESULTS)
    op.execute(LATEST_RESULTS)
