"""Another program holds the database for longer than we wait: intake pauses, then goes on."""

import sqlite3

import pytest

from tests.badday.ward import SETTINGS, drop, is_empty, new_site, wait_until, wrongs


@pytest.mark.slow
def test_a_database_that_another_process_holds_costs_no_film(tmp_path, worker):
    config = new_site(tmp_path / "site", SETTINGS + "[database]\nbusy_timeout_s = 0.1\n")
    watching = worker(config)
    other = sqlite3.connect(config.root / "screen.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    drop(config)
    assert watching.says("database is locked", times=3)
    assert watching.process.poll() is None
    other.execute("ROLLBACK")
    other.close()
    assert wait_until(lambda: is_empty(config))
    assert watching.end() == 0
    assert wrongs(config) == []
