"""The wheel is complete: it runs from any folder, without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
FROM = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], check=True, timeout=120)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, repository):
    """The built wheel. Needs hatchling in this environment: nothing is downloaded."""
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", *FROM, "--wheel-dir", folder, repository)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", *FROM, "--target", folder, wheel)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """Run Python from another folder; of Screen it sees only what was installed."""

    def run_python(*arguments):
        ended = subprocess.run(
            [sys.executable, "-P", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run_python


def test_the_installed_package_is_the_one_that_runs(run, installed):
    where = run("-c", "import worker, models; print(worker.__file__, models.__file__, sep='\\n')")
    assert all(Path(line).is_relative_to(installed) for line in where.split())


def test_the_version_is_that_of_the_wheel(run, wheel):
    from worker import __version__

    assert __version__ in run("-m", "worker", "--version")
    assert wheel.name.startswith(f"cxr_screen-{__version__}-")


@pytest.mark.parametrize("name", ["templates", "migrations", "config.toml"])
def test_what_ships_is_found_inside_the_package(run, installed, name):
    found = run("-c", f"from worker.assets import asset; print(asset('{name}'))")
    assert Path(found.strip()) == installed / "worker" / name


def test_every_file_of_templates_and_migrations_is_in_the_wheel(wheel, repository):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("templates", "migrations", "models/shipped"):
        for path in (repository / folder).rglob("*"):
            name = path.relative_to(repository).as_posix()
            wanted = name if folder.startswith("models") else f"worker/{name}"
            if path.is_file() and not {"__pycache__", "checkpoints"} & set(path.parts):
                assert wanted in inside


def test_neither_tests_nor_checkpoints_are_in_the_wheel(wheel):
    inside = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in inside if name.startswith("tests") or "checkpoints" in name]


def test_licence_and_notice_are_in_the_wheel(wheel):
    inside = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
    assert {"LICENSE", "NOTICE", "entry_points.txt"} <= inside


def test_a_site_can_be_made_and_asked_from_anywhere(run, tmp_path):
    run("-m", "worker", "init", "clinic")
    assert run("-m", "worker", "--config", "clinic/config.toml", "query", "--json") == "[]\n"
    report = run("-m", "worker", "report", "--config", tmp_path / "clinic" / "config.toml")
    assert Path(report.splitlines()[-1]).read_text().startswith("<!doctype html>")
