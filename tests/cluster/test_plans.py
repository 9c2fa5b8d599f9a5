"""Leasing costs the same however many files the database holds."""

import pytest
from sqlalchemy import text

from worker.intake.found import INBOX
from worker.store import leases

ROWS = 20_000
FILL = """
INSERT INTO files (run_id, model_id, source, file, path, size, mtime_ns, claim, state, attempts,
                   strikes, worker_deaths, recorded_at, site_mark)
SELECT :run, :model, CASE n % 2 WHEN 0 THEN 'inbox' ELSE '/archive' END, n::text, n::text::bytea,
       1, 1, n::text, CASE WHEN n > :rows * 0.9 THEN 'waiting' ELSE 'screened' END, 0, 0, 0, now(),
       CASE n % 2 WHEN 0 THEN :mark END
FROM generate_series(1, :rows) AS n
"""


@pytest.fixture
def full(server, new_holder):
    """A database in which a tenth of many files waits; gives who leases."""
    holder, values = new_holder(), {"rows": ROWS, "mark": "ab" * 16}
    with server.begin() as connection:
        values |= {"run": holder.run_id, "model": holder.model_id}
        connection.execute(text(FILL), values)
        connection.execute(text("ANALYZE files"))
    return holder


@pytest.mark.parametrize(("source", "mark"), [(INBOX, "ab" * 16), ("/archive", None), (None, None)])
def test_the_next_files_come_from_an_index_of_what_waits_without_sorting(
    server, full, source, mark
):
    asked = leases._next(full, source, mark).limit(32)
    statement = asked.compile(server, compile_kwargs={"literal_binds": True})
    with server.connect() as connection:
        rows = connection.execute(text(f"EXPLAIN (ANALYZE, TIMING off) {statement}"))
        plan = "\n".join(rows.scalars())
    assert "ix_files_waiting" in plan
    assert "Sort" not in plan
    assert "Seq Scan" not in plan
