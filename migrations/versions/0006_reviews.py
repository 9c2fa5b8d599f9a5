"""Readers' reviews of answers, and the patient's name where a site wants it.

`results` and `latest_results` say what the newest review of each answer says.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
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
       CASE WHEN screenings.report_removed_at IS NULL THEN screenings.page END AS page,
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
       CASE WHEN screenings.report_removed_at IS NULL THEN screenings.page END AS page,
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
    op.add_column("films", sa.Column("patient_name", sa.Text(), nullable=True))
    op.create_table(
        "reviews",
        sa.Column("id", ID, nullable=False),
        sa.Column("screening_id", ID, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("reviewed_at", sa.DateTime(), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('agree', 'disagree', 'unclear')", name=op.f("ck_reviews_verdict")
        ),
        sa.ForeignKeyConstraint(
            ["screening_id"],
            ["screenings.id"],
            name=op.f("fk_reviews_screening_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    for columns in (("screening_id", "id"), ("verdict", "id")):
        op.create_index(op.f(f"ix_reviews_{'_'.join(columns)}"), "reviews", columns)
    for view, statement in (("results", RESULTS), ("latest_results", LATEST_RESULTS)):
        op.execute(f"DROP VIEW {view}")
        op.execute(statement)
