"""For a million results: the answer beside each file, indexes for questions, lists that are due.

`results` says what it said; the lists below reports/results/ are all due.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
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
       screenings.report_removed_at AS page_removed_at
FROM files
JOIN models ON models.id = files.model_id
LEFT JOIN screenings ON screenings.id = files.screening_id
LEFT JOIN failures ON failures.file_id = files.id
WHERE files.state IN ('screened', 'duplicate', 'failed')
"""

OF_SCREENINGS = """
UPDATE files SET (decision, probability, reason) =
    (SELECT decision, probability, reason FROM screenings WHERE screenings.id = screening_id)
WHERE screening_id IS NOT NULL
"""

OF_FAILURES = """
UPDATE files SET decision = 'REFUSED',
    reason = (SELECT reason FROM failures WHERE failures.file_id = files.id)
WHERE state = 'failed'
"""

INDEXES = (
    ("screenings", "decision", "screened_at"),
    ("screenings", "model_id", "decision", "probability"),
    ("screenings", "run_id", "decision"),
    ("files", "finished_at", "id"),
    ("files", "probability", "id"),
    ("files", "decision", "probability", "id"),
    *(("files", name, "finished_at") for name in ("state", "decision", "source")),
    *(("files", name, "id") for name in ("state", "decision", "reason", "source", "sha256")),
    ("files", "run_id", "state", "id"),
    ("files", "final_name", "state"),
    ("failures", "resolution", "file_id"),
)


def upgrade() -> None:
    op.execute("DROP VIEW results")
    for column in (("decision", sa.Text()), ("probability", sa.Double()), ("reason", sa.Text())):
        op.add_column("files", sa.Column(*column, nullable=True))
    op.add_column("site", sa.Column("pages_safe", ID, nullable=False, server_default="0"))
    op.execute(OF_SCREENINGS)
    op.execute(OF_FAILURES)
    for table, column in (("files", "run_id"), ("screenings", "run_id"), ("files", "final_name")):
        op.drop_index(op.f(f"ix_{table}_{column}"), table)  # the first column of another index
    for table, *columns in INDEXES:
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns)
    op.create_table(
        "result_lists",
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.Column("written", sa.Integer(), nullable=False),
        sa.Column("results", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.DateTime(), nullable=True),
        sa.Column("last_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("block", name=op.f("pk_result_lists")),
    )
    op.execute(
        "INSERT INTO result_lists (block, changes, written, results) "
        "SELECT DISTINCT id / 1000, 1, 0, 0 FROM files"
    )
    op.execute(RESULTS)
