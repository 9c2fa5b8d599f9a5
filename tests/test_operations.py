"""The unit in docs/OPERATIONS.md is one that systemd takes, and that lets the decoders work."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OPERATIONS = (Path(__file__).resolve().parents[1] / "docs" / "OPERATIONS.md").read_text("utf-8")
(UNIT,) = re.findall(r"```ini\n(.*?)```", OPERATIONS, re.DOTALL)


@pytest.fixture
def service():
    unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    unit.optionxform = str
    unit.read_string(UNIT)
    return unit["Service"]


def test_systemd_takes_the_unit_as_it_is_written(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    program = UNIT.replace(
        "/opt/screen/.venv/bin/screen watch", f"{sys.executable} -m worker watch"
    )
    file = tmp_path / "screen@.service"
    file.write_text(
        program.replace("User=screen", "User=root").replace("Group=screen", "Group=root")
    )
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_the_worker_is_told_apart_from_one_that_hangs(service):
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) >= 4 * 30  # the longest pause between two attempts
    assert service["Restart"] == "on-failure"


def test_decoders_can_confine_themselves(service):
    assert service["NoNewPrivileges"] == "yes"
    allowed = UNIT.split("SystemCallFilter=")[2].split("\n")[0].split()
    assert {"landlock_create_ruleset", "landlock_restrict_self", "seccomp"} <= set(allowed)


def test_sd_notify_and_the_boot_id_are_within_reach(service):
    assert "AF_UNIX" in service["RestrictAddressFamilies"]
    assert "ProcSubset" not in service


def test_the_site_can_be_written(service):
    assert service["ReadWritePaths"] == service["WorkingDirectory"] == "/srv/screen/%i"
