"""Nothing that the program makes is ever open to the world, whatever the umask says."""

import os
import re
import shutil
import stat
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.conftest import NOT_ALLOWED, screen_environment
from tests.security.conftest import real_site

pytestmark = pytest.mark.slow

UMASKS = [0o000, 0o022, 0o027, 0o077]
STRACE = (
    *("strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none"),
    *("-e", "trace=open,openat,creat,mkdir,mkdirat", "-o"),
)
OPENED = re.compile(r'(?:openat\(AT_FDCWD, |open\(|creat\()"(.*)", .*O_CREAT.*, (0\d+)\)\s+= \d')
MADE = re.compile(r'(?:mkdir\(|mkdirat\(AT_FDCWD, )"(.*)", (0\d+)\)\s+= 0')


def film(seed):
    noise = np.random.default_rng(seed).integers(0, 255, (128, 128), np.uint8)
    return cv2.imencode(".jpg", cv2.GaussianBlur(noise, (0, 0), 9))[1].tobytes()


def mode(path):
    return stat.S_IMODE(path.stat(follow_symlinks=False).st_mode)


def run(arguments, cwd, trace, umask, asked):
    """Run the program under strace; note the mode with which each path was first made."""
    ended = subprocess.run(
        [*STRACE, trace, sys.executable, "-m", "worker", *map(str, arguments)],
        cwd=cwd,
        env=screen_environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        preexec_fn=lambda: os.umask(umask),
    )
    assert ended.returncode in (0, 3), ended.stderr
    for line in trace.read_text(errors="replace").splitlines():
        made = OPENED.search(line) or MADE.search(line)
        if made and (made[1].startswith(str(trace.parent)) or not made[1].startswith("/")):
            asked.setdefault(made[1], int(made[2], 8))  # SQLite opens again what was made for it


@pytest.fixture(scope="module", params=UMASKS, ids=lambda umask: f"umask-{umask:03o}")
def umask(request):
    if shutil.which("strace") is None:
        pytest.skip("Debian's package strace is not installed")
    if subprocess.run(["strace", "-o", os.devnull, "true"], check=False).returncode:
        pytest.skip(f"{NOT_ALLOWED} to trace processes")
    return request.param


@pytest.fixture(scope="module")
def worked(umask, tmp_path_factory, tiny_model):
    """A site that has watched, filled and evaluated under this umask, and the modes asked for."""
    root = tmp_path_factory.mktemp(f"modes{umask:o}")
    trace, asked = root / "trace", {}
    run(["init", root / "site"], root, trace, umask, asked)
    config = real_site_of(root / "site", tiny_model)
    labelled = root / "labelled"
    for number in range(8):
        folder = labelled / ("NORMAL", "PNEUMONIA")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(film(number))
    drop(config.site.inbox / "shared.jpg", film(20), 0o666)
    drop(config.site.inbox / "private.jpg", film(21), 0o600)
    drop(config.site.inbox / "broken.jpg", film(22)[:-900] + b"\xff\xd9", 0o644)
    drop(config.site.inbox / "text.jpg", b"no film", 0o666)
    for arguments in (
        ("watch", "--once"),
        ("backfill", labelled),
        ("evaluate", labelled, "--html", "e.html", "--json", "e.json", "--predictions", "e.csv"),
        ("classify", labelled, "--overlay", "overlays/new"),
    ):
        run(arguments, config.root, trace, umask, asked)
    return config, asked


def real_site_of(folder, model):
    """The configuration of `real_site` for a site that is there; its mode is kept."""
    before = mode(folder / "config.toml")
    spare = folder.parent / "spare"
    text = (real_site(spare, model).root / "config.toml").read_text()
    (folder / "config.toml").write_text(text)
    assert mode(folder / "config.toml") == before
    from worker.config import load_config

    return load_config(folder / "config.toml")


def drop(path, content, bits):
    path.write_bytes(content)
    path.chmod(bits)


def test_nothing_was_open_to_the_world_even_for_a_moment(worked, umask):
    """Also not under a temporary name, and not between mkdir and chmod: what counts is what the
    system was asked for, less the umask."""
    _, asked = worked
    assert len(asked) > 20
    wide = {(path, oct(bits)) for path, bits in asked.items() if bits & ~umask & 0o007}
    assert wide == set()


def test_folders_reports_and_secrets_have_the_modes_of_the_interface(worked):
    config, _ = worked
    site = config.site
    for folder in (config.root, *site.folders, site.reports / "films", site.reports / "pictures"):
        assert oct(mode(folder)) == oct(0o2750), folder
    pages = [*site.reports.rglob("*.html"), *site.reports.rglob("*.jpg")]
    sidecars = list(site.failed.glob("*.json"))
    assert len(pages) > 8
    assert sidecars
    for file in (*pages, *sidecars, config.root / "config.toml"):
        assert oct(mode(file)) == oct(0o640), file
    for secret in config.root.glob("screen.db*"):
        assert oct(mode(secret)) == oct(0o600), secret
    for lock in (site.work / ".lock", site.reports / ".lock"):
        assert oct(mode(lock)) == oct(0o600), lock


def test_results_of_evaluate_and_classify_are_for_the_group_at_most(worked):
    """They show films and their names; they came out as the umask had it, mostly world-readable."""
    config, _ = worked
    results = [config.root / f"e.{kind}" for kind in ("html", "json", "csv")]
    overlays = list((config.root / "overlays" / "new").iterdir())
    assert len(overlays) == 8
    for file in (*results, *overlays):
        assert oct(mode(file)) == oct(0o640), file
    assert oct(mode(config.root / "overlays" / "new")) == oct(0o2750)


def test_films_keep_the_mode_of_their_uploader_behind_a_closed_door(worked):
    """Only an owner may change a mode, and the worker is seldom the owner: the folder closes."""
    config, _ = worked
    assert oct(mode(config.site.done / "shared.jpg")) == oct(0o666)
    assert oct(mode(config.site.done / "private.jpg")) == oct(0o600)
    assert oct(mode(config.site.failed / "text.jpg")) == oct(0o666)
    for folder in (config.root, config.site.done, config.site.failed):
        assert not mode(folder) & 0o007


def test_a_result_is_written_to_a_terminal_or_pipe_and_never_replaces_it(
    tmp_path, tiny_model, screen, sample_films
):
    folder = tmp_path / "films"
    for label in ("NORMAL", "PNEUMONIA"):
        (folder / label).mkdir(parents=True)
        source = next((sample_films / label).iterdir())
        shutil.copy(source, folder / label)
    ended = screen(
        "evaluate", folder, "--model", tiny_model, "--predictions", "/dev/stdout", cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    assert "file,sha256,decision" in ended.stdout
