"""A worker whose n-th system call fails blames no film and loses none: a sample of the sweep."""

import subprocess
import sys

import pytest

from tests.badday.syscalls import KINDS, build, preloaded


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return build(tmp_path_factory.mktemp("shim"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_after_any_failed_call_every_film_ends_once_and_none_is_blamed(shim, kind, repository):
    ended = subprocess.run(
        [sys.executable, "-m", "tests.badday.syscalls", "--kind", kind, "--per-kind", "3"],
        env=preloaded(shim) | {"PYTHONPATH": str(repository)},
        cwd=repository,
        stdout=subprocess.PIPE,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    tried = int(ended.stdout.splitlines()[-1].split()[0])
    assert tried or kind == "link"  # only filesystems without renameat2's flags are given links
