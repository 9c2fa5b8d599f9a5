"""The program at work unpickles nothing: seen by the interpreter's own audit events."""

import subprocess
import sys

import pytest

from tests.conftest import screen_environment
from tests.security.test_modes import film

pytestmark = pytest.mark.slow

# Runs `screen` with a hook that ends the process when anything is unpickled. pickle.find_class is
# raised for every global that a pickle names.
AUDITED = """
import os, pickle, sys
seen = []

def hook(event, arguments):
    if event == "pickle.find_class":
        os.write(2, b"UNPICKLED " + repr(arguments).encode() + b"\\n")
        os._exit(99)

sys.addaudithook(hook)
if sys.argv[1] == "unpickle":
    pickle.loads(pickle.dumps(hook))
from worker.cli.main import main
sys.argv[0] = "screen"
main()
"""


def audited(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", AUDITED, *map(str, arguments)],
        cwd=cwd, env=screen_environment(), capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    for number in range(6):
        label = folder / ("NORMAL", "PNEUMONIA")[number % 2]
        label.mkdir(exist_ok=True)
        (label / f"{number}.jpg").write_bytes(film(number))
    return folder


def test_the_hook_sees_a_pickle(tmp_path):
    assert audited("unpickle", cwd=tmp_path).returncode == 99


def test_no_job_unpickles_anything(tmp_path, labelled, tiny_model):
    from tests.security.conftest import real_site

    config = real_site(tmp_path / "site", tiny_model)
    (config.site.inbox / "film.jpg").write_bytes(film(9))
    for job in (
        ("watch", "--once"),
        ("backfill", labelled),
        ("report",),
        ("query", "--json"),
        ("classify", labelled, "--overlay", tmp_path / "overlays"),
        ("evaluate", labelled, "--html", tmp_path / "e.html", "--json", tmp_path / "e.json"),
        ("doctor",),
    ):
        ended = audited(*job, cwd=config.root)
        assert "UNPICKLED" not in ended.stderr, (job, ended.stderr)
        assert ended.returncode == 0, (job, ended.stderr)
